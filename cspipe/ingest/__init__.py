"""Preparation of the images: from the source that params.yaml names to a folder of shards."""
