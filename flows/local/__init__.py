"""`cspipe up`: server, S3 store, workers and supervisor on one machine, and `cspipe worker` for the others."""
