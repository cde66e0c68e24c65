"""Sampling: the loop over steps, variants and their settings, repainting, exposure bias."""
