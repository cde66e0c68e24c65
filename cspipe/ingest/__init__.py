"""From what a person brings to prepared shards."""
