"""Infrastructure of all parts: devices, files, S3, progress, errors. It changes results by rounding at most."""
