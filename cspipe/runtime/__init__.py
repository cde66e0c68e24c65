"""What every part stands on: devices, files, S3, progress, errors. Nothing here changes more than rounding."""
