"""What every part stands on: devices, files, S3, progress, errors. Nothing here can change a result."""
