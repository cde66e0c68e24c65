"""DiT: the parameters of its source."""

import torch

from cspipe.backbones.dit import DiT
from cspipe.nets.blocks import count_parameters


def test_parameters_of_dit_s_2() -> None:
    """32.96 M: on latents of 4 x 32 x 32 with a learned variance; a table of 1000 labels and none is not in ours.

    The source counts its fixed positions too, 16 x 16 of 384 numbers.
    """
    shape = {"in_channels": 4, "out_channels": 8, "size": 32}
    with torch.device("meta"):
        net = DiT(**shape, channels=384, depth=12, head_channels=64, patch=2, dropout=0.0)
    labels, positions = 1001 * 384, 16 * 16 * 384
    assert net.positions.numel() == positions
    assert count_parameters(net) + labels + positions == 32_963_360
