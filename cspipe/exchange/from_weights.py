"""Read files of weights named as in guided-diffusion (Dhariwal and Nichol 2021), DDPM's PyTorch ports, or EDM.

Files of the first two do not contain the size of images or that of attention heads; nets are read as both
repositories make them by default: images of 3 or 1 channels, no labels, resampling with weights, attention of
guided-diffusion in its old order of queries, keys and values. Of EDM's nets, those with a SongUNet are read.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cspipe.backbones.songunet import TAPS
from cspipe.exchange.foreign import Foreign, State, read_tensors
from cspipe.exchange.unet2d import shifted
from cspipe.nets.blocks import frequencies
from cspipe.runtime.errors import UserError

GUIDED = {
    "in_layers.0": "block.before.0", "in_layers.2": "block.first", "emb_layers.1": "block.modulation",
    "out_layers.0": "block.norm", "out_layers.3": "block.after.2", "skip_connection": "block.skip.1",
    "norm": "attention.norm", "qkv": "attention.attention.qkv", "proj_out": "attention.attention.project",
}  # fmt: skip
DDPM = {
    "norm1": "block.before.0", "conv1": "block.first", "temb_proj": "block.shift", "norm2": "block.after.0",
    "conv2": "block.after.3", "nin_shortcut": "block.skip.1", "norm": "attention.norm",
    "proj_out": "attention.attention.project", "conv": "conv",
}  # fmt: skip
EDM = {
    "norm0": "block.before.0", "conv0": "block.first", "affine": "block.shift", "norm1": "block.after.0",
    "conv1": "block.after.3", "skip": "block.skip.1", "norm2": "attention.norm", "qkv": "attention.attention.qkv",
    "proj": "attention.attention.project",
}  # fmt: skip
"""GUIDED, DDPM, EDM: names of the layers of a stage in the source, and their names here."""


def read_weights(path: Path, size: int, head_channels: int, levels: int, prediction: str | None) -> Foreign:
    """Read the net from a file of weights; `levels` and `prediction` are for EDM's nets only. Raises UserError."""
    state = read_tensors(path)
    if "model.map_layer0.weight" in state:
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    if wants := next((name for name in ("label_emb", "map_label") if f"{name}.weight" in state), None):
        raise UserError(f"{path}: the net needs labels ({wants}); only nets without labels can be imported")
    try:
        if "input_blocks.0.0.weight" in state:
            return _guided(state, size, head_channels)
        if "temb.dense.0.weight" in state:
            return _ddpm(state, size)
        if "map_layer0.weight" in state and "out_conv.weight" not in state:  # out_conv: in EDM's ADM net
            return _edm(state, levels, "eps" if prediction == "eps" else "edm")
    except (LookupError, TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{path}: its tensors make no net of this kind ({type(error).__name__}: {error})") from None
    known = "guided-diffusion (input_blocks.0.0.weight), DDPM (temb.dense.0.weight) or EDM's SongUNet (dec.*_aux_conv)"
    raise UserError(f"{path}: does not hold weights of {known}; name such a file or a diffusers folder")


def _guided(state: State, size: int, head_channels: int) -> Foreign:
    """Convert ADM's U-Net, whose down- and upsampling are residual blocks (resblock_updown)."""
    stages = 1 + max(_numbers(state, r"input_blocks\.(\d+)\."))
    rises = {i: k for i in range(stages) for k in (1, 2) if f"output_blocks.{i}.{k}.in_layers.0.weight" in state}
    levels = len(rises) + 1
    per_level = stages // levels
    places = {"time_embed.0": "time.mlp.0", "time_embed.2": "time.mlp.2", "input_blocks.0.0": "stem",
              "out.0": "head.0", "out.2": "head.2"}  # fmt: skip
    parts = {f"input_blocks.{i}.{k}": f"encoder.{i - 1}" for i in range(1, stages) for k in (0, 1)}
    parts |= {"middle_block.0": "middle.0", "middle_block.1": "middle.0", "middle_block.2": "middle.1"}
    for i in range(stages):
        level, stage = divmod(i, per_level)
        parts |= {f"output_blocks.{i}.{k}": f"decoder.{level}.stages.{stage}" for k in (0, 1)}
        if i in rises:
            parts[f"output_blocks.{i}.{rises[i]}"] = f"decoder.{level + 1}.rise"
    channels = len(state["input_blocks.0.0.weight"])
    at = [1 + level * per_level for level in range(levels)]
    widths = [len(state[f"input_blocks.{i}.0.in_layers.2.weight"]) for i in at]
    attends = [f"input_blocks.{i}.1.qkv.weight" in state for i in at]
    ours = _renamed(state, places, parts, GUIDED)
    for name in [name for name in ours if ".qkv." in name]:
        ours[name] = _by_kind(ours[name], head_channels)
    seen = state["input_blocks.0.0.weight"].shape[1]
    ours |= {name: ours[name][:seen] for name in ("head.2.weight", "head.2.bias")}  # other rows: learned variances
    ours["time.mlp.0.weight"] = shifted(ours["time.mlp.0.weight"], frequencies(channels), -1)
    keys = {"name": "adm", "head_channels": head_channels, **_levels(channels, per_level - 1, widths, attends, size)}
    return Foreign("guided-diffusion", keys, seen, size, ours, lambda _: 32)


def _ddpm(state: State, size: int) -> Foreign:
    """Convert DDPM's U-Net."""
    levels, blocks = 1 + max(_numbers(state, r"down\.(\d+)\.")), 1 + max(_numbers(state, r"down\.0\.block\.(\d+)\."))
    _check_stages(state, levels, blocks)
    places = {"temb.dense.0": "time.mlp.0", "temb.dense.1": "time.mlp.2", "conv_in": "stem",
              "norm_out": "head.0", "conv_out": "head.2"}  # fmt: skip
    parts = {"mid.block_1": "middle.0", "mid.attn_1": "middle.0", "mid.block_2": "middle.1"}
    for level in range(levels):
        start, above = level * (blocks + 1), levels - 1 - level
        for kind in ("block", "attn"):
            parts |= {f"down.{level}.{kind}.{i}": f"encoder.{start + i}" for i in range(blocks)}
            parts |= {f"up.{level}.{kind}.{i}": f"decoder.{above}.stages.{i}" for i in range(blocks + 1)}
        parts[f"down.{level}.downsample"] = f"encoder.{start + blocks}"
        parts[f"up.{level}.upsample"] = f"decoder.{above + 1}.rise"
    joined = dict(state)
    for name in [name for name in state if re.search(r"\.attn(_1)?(\.\d+)?\.q\.", name)]:
        rest = [joined.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
        joined[name.replace(".q.", ".qkv.")] = torch.cat(rest)
    ours = _renamed(joined, places, parts, {**DDPM, "qkv": "attention.attention.qkv"})
    channels, first = len(state["conv_in.weight"]), "time.mlp.0.weight"
    half = channels // 2
    ours[first] = shifted(ours[first].roll(half, 1), torch.logspace(0, -4, half), -1)  # theirs: sines, then cosines
    widths = [len(state[f"down.{level}.block.0.conv1.weight"]) for level in range(levels)]
    attends = [f"down.{level}.attn.0.norm.weight" in state for level in range(levels)]
    keys = {"name": "ddpm", **_levels(channels, blocks, widths, attends, size)}
    return Foreign("DDPM", keys, state["conv_in.weight"].shape[1], size, ours, lambda _: 32)


def _edm(state: State, levels: int, prediction: str) -> Foreign:
    """Convert EDM's SongUNet, DDPM++ or NCSN++. Its augmentation labels are 0 in sampling, and left out."""
    arch = "ncsnpp" if "map_noise.freqs" in state else "ddpmpp"
    sizes = sorted(set(_numbers(state, r"enc\.(\d+)x")), reverse=True)
    blocks = 1 + max(_numbers(state, rf"enc\.{sizes[0]}x\d+_block(\d+)\."))
    _check_stages(state, len(sizes), blocks)
    for name in [name for name in state if name.endswith("resample_filter")]:
        if state.pop(name).shape[-1] != len(TAPS[arch]):
            raise ValueError(f"{name} is not that of {arch}")
    state.pop("map_augment.weight", None)
    ours = _renamed(state, *_edm_names(sizes, blocks), EDM)
    for name in [name for name in ours if ".qkv." in name]:
        ours[name] = _by_kind(ours[name], 1)
    first = ours["time.mlp.0.weight"]
    ours["time.mlp.0.weight"] = first.roll(first.shape[1] // 2, 1)  # theirs: sines, then cosines
    if arch == "ncsnpp":
        ours["time.frequencies"] = 2 * math.pi * ours.pop("time.freqs")
    channels, seen = ours["stem.weight"].shape[:2]
    tops = [f"enc.{side}x{side}_block0" for side in sizes]
    widths, attends = [len(state[f"{top}.conv1.bias"]) for top in tops], [f"{top}.qkv.bias" in state for top in tops]
    told = {"arch": arch, "precond": "vp" if prediction == "eps" else "edm", "levels": levels}
    keys = {"name": "songunet", **told, **_levels(channels, blocks, widths, attends, sizes[0])}
    diffusion = {"steps": levels, "schedule": "karras", "prediction": prediction}
    return Foreign("EDM", keys, seen, sizes[0], ours, lambda width: min(32, width // 4), diffusion)


def _edm_names(sizes: list[int], blocks: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of a SongUNet's layers, and of its stages, each with the names here."""
    top, deepest = (f"{side}x{side}" for side in (sizes[0], sizes[-1]))
    places = {"map_noise": "time", "map_layer0": "time.mlp.0", "map_layer1": "time.mlp.2", f"enc.{top}_conv": "stem",
              f"dec.{top}_aux_norm": "head.0", f"dec.{top}_aux_conv": "head.2"}  # fmt: skip
    parts = {f"dec.{deepest}_in{i}": f"middle.{i}" for i in (0, 1)}
    for level, side in enumerate(sizes):
        start, above, here = level * (blocks + 1), len(sizes) - 1 - level, f"{side}x{side}"
        parts |= {f"enc.{here}_block{i}": f"encoder.{start + i}" for i in range(blocks)}
        parts |= {f"dec.{here}_block{i}": f"decoder.{above}.stages.{i}" for i in range(blocks + 1)}
        parts |= {f"enc.{here}_down": f"encoder.{start - 1}", f"dec.{here}_up": f"decoder.{above}.rise"}
        places[f"enc.{here}_aux_residual"] = f"pyramid.{level - 1}.0"
    return places, parts


def _check_stages(state: State, levels: int, blocks: int) -> None:
    """Check that the state can have so many stages, before a table of them is made. Raises ValueError if not."""
    if levels * blocks > len(state):
        raise ValueError(f"{levels} levels of {blocks} blocks, and {len(state)} tensors")


def _numbers(state: State, pattern: str) -> list[int]:
    """Return the numbers, of at most four digits, that a pattern finds in the names of tensors."""
    return [int(found[1]) for name in state if (found := re.match(pattern, name)) and len(found[1]) < 5]


def _levels(channels: int, blocks: int, widths: list[int], attends: list[bool], size: int) -> dict[str, Any]:
    """Return the keys of a U-Net in the section `model`. Raises ValueError if widths are no multiples of `channels`."""
    if any(width % channels for width in widths):
        raise ValueError(f"widths {widths} are no multiples of {channels}")
    attention = [size >> level for level, attend in enumerate(attends) if attend]
    multipliers = [width // channels for width in widths]
    return {"channels": channels, "blocks": blocks, "multipliers": multipliers, "attention": attention, "dropout": 0.0}


def _renamed(state: State, places: dict[str, str], parts: dict[str, str], layers: dict[str, str]) -> State:
    """Rename weights: layers by `places`, layers of stages by `parts` and `layers`; attention layers become linear."""
    ours = {}
    for name, tensor in state.items():
        path, _, kind = name.rpartition(".")
        if path not in places:
            part = max((part for part in parts if path.startswith(f"{part}.")), key=len, default="")
            layer = layers[path.removeprefix(f"{part}.")]
            flat = layer.startswith("attention.attention") and kind == "weight"
            path, tensor = f"{parts[part]}.{layer}", tensor.flatten(1) if flat else tensor
        ours[f"{places.get(path, path)}.{kind}"] = tensor
    return ours


def _by_kind(rows: Tensor, head_channels: int) -> Tensor:
    """Sort rows of queries, keys and values of each head in turn into all queries, then all keys, then all values."""
    sorted_rows: Tensor = rows.unflatten(0, (-1, 3, head_channels)).transpose(0, 1).flatten(0, 2)
    return sorted_rows
