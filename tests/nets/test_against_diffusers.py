"""The U-Net and the time embedding against diffusers' independent versions."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.embeddings import get_timestep_embedding

from cspipe.nets import UNet, count_parameters
from cspipe.nets.blocks import frequencies, waves

BLOCK = {
    "before.0": "norm1",
    "first": "conv1",
    "norm": "norm2",
    "modulation": "time_emb_proj",
    "after.2": "conv2",
    "skip.1": "conv_shortcut",
}


def pair(channels: int, blocks: int, multipliers: list[int], attended: int, classes: int | None) -> tuple[UNet, UNet2DModel]:
    """Ours and theirs, for 32 x 32 pixels and attention from level `attended` downwards."""
    levels, plain = len(multipliers), min(attended, len(multipliers))
    ours = UNet(
        in_channels=3,
        out_channels=3,
        size=32,
        channels=channels,
        blocks=blocks,
        multipliers=multipliers,
        attention=[32 >> level for level in range(plain, levels)],
        head_channels=32,
        dropout=0.0,
        classes=classes,
    )
    theirs = UNet2DModel(
        layers_per_block=blocks,
        block_out_channels=tuple(channels * multiplier for multiplier in multipliers),
        down_block_types=("ResnetDownsampleBlock2D",) * plain + ("AttnDownBlock2D",) * (levels - plain),
        up_block_types=("AttnUpBlock2D",) * (levels - plain) + ("ResnetUpsampleBlock2D",) * plain,
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=32,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=classes,
    )
    return ours, theirs
