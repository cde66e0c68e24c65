"""Prepared data: images as uint8 shards, the user's masks, and the conditions of a task."""
