"""Training loops that count in images seen and resume exactly."""
