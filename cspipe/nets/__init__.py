"""What the nets are made of: blocks, attention, levels; the nets are in cspipe/backbones and cspipe/compensators."""
