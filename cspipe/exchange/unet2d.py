"""Convert nets of this package to diffusers' UNet2DModel: its configuration, and the weights under its names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cspipe.backbones import adm, ddpm, unet2d
from cspipe.nets.backbone import BackboneSettings, LevelSettings

RENAMED = {
    "block.before.0": "norm1",
    "block.first": "conv1",
    "block.norm": "norm2",
    "block.modulation": "time_emb_proj",
    "block.after.2": "conv2",
    "block.skip.1": "conv_shortcut",
    "block.shift": "time_emb_proj",
    "block.after.0": "norm2",
    "block.after.3": "conv2",
    "attention.norm": "group_norm",
    "attention.attention.project": "to_out.0",
}
"""Names of the layers of a stage, here and in UNet2DModel; those of ADM and DDPM do not collide."""
OF_KIND = {
    "adm": {
        "downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift",
        "norm_eps": 1e-5, "freq_shift": 0,
    },
    "ddpm": {
        "downsample_type": "conv", "upsample_type": "conv", "resnet_time_scale_shift": "default",
        "norm_eps": 1e-6, "freq_shift": 1, "downsample_padding": 0,
    },
}  # fmt: skip
PLAIN = {"adm": ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"), "ddpm": ("DownBlock2D", "UpBlock2D")}


def as_unet2d(
    net: nn.Module, model: BackboneSettings, size: int
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:  # fmt: skip
    """Return configuration and weights of a net as a UNet2DModel, called with times in 0..999; None if it is not one.

    UNet2DModel has one number of groups for all norms, and as many channels in its first level as sinusoids of time.
    """
    if isinstance(model, unet2d.Settings):
        assert isinstance(net, unet2d.UNet2D)
        arguments = {key: net.unet.config[key] for key in ("in_channels", "out_channels", "sample_size")}
        return {**model.config, **arguments}, net.unet.state_dict()
    groups = {layer.num_groups for layer in net.modules() if isinstance(layer, nn.GroupNorm)}
    if not isinstance(model, adm.Settings | ddpm.Settings) or len(groups) > 1 or model.multipliers[0] != 1:
        return None
    state = unet2d_state(net, len(model.multipliers), model.blocks)
    first = "time_embedding.linear_1.weight"
    state[first] = shifted(state[first], net.get_buffer("time.frequencies"), 1)
    heads = {"attention_head_dim": model.head_channels if isinstance(model, adm.Settings) else None}
    shape = {"in_channels": net.get_parameter("stem.weight").shape[1], "out_channels": len(state["conv_out.bias"])}
    norms = dict.fromkeys(("norm_num_groups", "attn_norm_num_groups"), groups.pop())
    attends = {"add_attention": bool(model.attention) or model.name == "ddpm"}
    levels = {"sample_size": size, **_levels(model, size), **OF_KIND[model.name]}
    return {**shape, **levels, **heads, **norms, **attends}, state


def shifted(weight: Tensor, angular: Tensor, by: float) -> Tensor:
    """Return weights of a time embedding's first layer (E, 2 half) whose output at t is that of `weight` at t + by.

    cos(w (t + by)) and sin(w (t + by)) are sums of cos(w t) and sin(w t).
    """
    cosines, sines = weight.double().chunk(2, dim=1)
    c, s = (angular.double() * by).cos(), (angular.double() * by).sin()
    return torch.cat([cosines * c + sines * s, sines * c - cosines * s], dim=1).to(weight.dtype)


def _levels(model: LevelSettings, size: int) -> dict[str, Any]:
    """Return the arguments of UNet2DModel that describe its levels."""
    attends = [size >> level in model.attention for level in range(len(model.multipliers))]
    down, up = PLAIN[model.name]
    return {
        "block_out_channels": [model.channels * m for m in model.multipliers],
        "layers_per_block": model.blocks,
        "down_block_types": ["AttnDownBlock2D" if each else down for each in attends],
        "up_block_types": ["AttnUpBlock2D" if each else up for each in reversed(attends)],
        "dropout": model.dropout,
    }


def _places(levels: int, blocks: int) -> dict[str, str]:
    """Return the names of parts here and in UNet2DModel, where {} stands for `resnets` or `attentions`."""
    places = {
        "stem": "conv_in", "time.mlp.0": "time_embedding.linear_1", "time.mlp.2": "time_embedding.linear_2",
        "head.0": "conv_norm_out", "head.2": "conv_out", "middle.0": "mid_block.{}.0", "middle.1": "mid_block.{}.1",
    }  # fmt: skip
    for level in range(levels):
        start = level * (blocks + 1)
        places |= {f"encoder.{start + i}": f"down_blocks.{level}.{{}}.{i}" for i in range(blocks)}
        places[f"encoder.{start + blocks}"] = f"down_blocks.{level}.downsamplers.0"
        places |= {f"decoder.{level}.stages.{i}": f"up_blocks.{level}.{{}}.{i}" for i in range(blocks + 1)}
        places[f"decoder.{level}.rise"] = f"up_blocks.{level - 1}.upsamplers.0"
    return places


def unet2d_state(net: nn.Module, levels: int, blocks: int) -> dict[str, Tensor]:
    """Return the weights of an ADM or DDPM net under the names of a UNet2DModel."""
    state: dict[str, Tensor] = {}
    places = _places(levels, blocks)
    for name, tensor in net.state_dict().items():
        path, kind = name.rsplit(".", 1)
        part = next(place for place in sorted(places, key=len, reverse=True) if f"{path}.".startswith(f"{place}."))
        layer = path.removeprefix(part).removeprefix(".")
        place = places[part].format("attentions" if layer.startswith("attention") else "resnets")
        if layer == "attention.attention.qkv":
            state |= {f"{place}.to_{q}.{kind}": rows for q, rows in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            state[".".join(filter(None, [place, RENAMED.get(layer, layer), kind]))] = tensor
    return state
