"""The whole U-Net against diffusers' independent one, with the same weights."""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from torch import Tensor

from cspipe.nets import UNet

WIDTHS, BLOCKS, CLASSES = (128, 256, 384), 2, 5  # widths at which every norm has the 32 groups that theirs has

RENAMED = {
    "block.before.0": "norm1",
    "block.first": "conv1",
    "block.norm": "norm2",
    "block.modulation": "time_emb_proj",
    "block.after.2": "conv2",
    "block.skip.1": "conv_shortcut",
    "attention.norm": "group_norm",
    "attention.attention.qkv": "qkv",
    "attention.attention.project": "to_out.0",
}


def their_paths() -> dict[str, str]:
    """Our module paths to theirs; of a stage, to its block and its attention ({} stands for which)."""
    paths = {
        "stem": "conv_in",
        "time.mlp.0": "time_embedding.linear_1",
        "time.mlp.2": "time_embedding.linear_2",
        "label": "class_embedding",
        "head.0": "conv_norm_out",
        "head.2": "conv_out",
        "middle.0": "mid_block.{}.0",
        "middle.1": "mid_block.{}.1",
    }
    for level in range(len(WIDTHS)):
        start = level * (BLOCKS + 1)
        paths |= {f"encoder.{start + i}": f"down_blocks.{level}.{{}}.{i}" for i in range(BLOCKS)}
        paths[f"encoder.{start + BLOCKS}"] = f"down_blocks.{level}.downsamplers.0"
        paths |= {f"decoder.{level}.stages.{i}": f"up_blocks.{level}.{{}}.{i}" for i in range(BLOCKS + 1)}
        paths[f"decoder.{level}.rise"] = f"up_blocks.{level - 1}.upsamplers.0"
    return paths


def their_state(ours: UNet) -> dict[str, Tensor]:
    """Our weights under their names."""
    state: dict[str, Tensor] = {}
    paths = their_paths()
    for name, tensor in ours.state_dict().items():
        path, kind = name.rsplit(".", 1)
        stage = next(p for p in sorted(paths, key=len, reverse=True) if f"{path}.".startswith(f"{p}."))
        rest = path.removeprefix(stage).removeprefix(".")
        place = paths[stage].format("attentions" if rest.startswith("attention") else "resnets")
        if RENAMED.get(rest) == "qkv":
            state |= {f"{place}.to_{part}.{kind}": t for part, t in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            state[".".join(filter(None, [place, RENAMED.get(rest), kind]))] = tensor
    return state


def test_same_weights_same_output(stir) -> None:
    ours = UNet(
        in_channels=3,
        out_channels=6,
        size=16,
        channels=WIDTHS[0],
        blocks=BLOCKS,
        multipliers=(1, 2, 3),
        attention=(8, 4),
        head_channels=32,
        dropout=0.0,
        classes=CLASSES,
    )
    theirs = UNet2DModel(
        out_channels=6,
        layers_per_block=BLOCKS,
        block_out_channels=WIDTHS,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=32,
        attn_norm_num_groups=32,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=CLASSES,
    )
    stir(ours)
    theirs.load_state_dict(their_state(ours))
    x, t, y = torch.randn(3, 3, 16, 16), torch.tensor([10.0, 437.5, 1000.0]), torch.tensor([0, 4, 2])
    torch.testing.assert_close(ours(x, t, y), theirs(x, t, y).sample, rtol=1e-4, atol=1e-4)
