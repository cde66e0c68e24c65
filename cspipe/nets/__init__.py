"""Parts of the nets in cspipe/backbones and cspipe/compensators: blocks, attention, levels, ADM's U-Net."""
