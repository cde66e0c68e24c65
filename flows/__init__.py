"""The Prefect side: flows, their workers and the servers they need. It imports cspipe, never the other way round."""
