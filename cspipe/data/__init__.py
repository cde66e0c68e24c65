"""Pictures from a source, prepared as uint8 shards. Nothing here imports torch: worker processes start quickly."""
