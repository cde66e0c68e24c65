"""Prefect flows, their workers and the servers they need. This package imports cspipe, never the other way round."""
