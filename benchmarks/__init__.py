"""Ratios and speeds, measured by commands that anyone can run; nothing here is a test."""
