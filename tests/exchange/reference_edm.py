"""The names and shapes of a SongUNet of EDM of two levels, and the weights with which EDM's own code was run by hand.

That code is in no package and not ours to copy; tests/exchange/test_from_edm.py has what it put out.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

WIDTH, SIZE, LEVELS = 64, 16, 18


class Block(nn.Module):
    """Both convolutions behind a norm; time; a skip if it resamples or has another width; attention."""

    def __init__(self, seen: int, out: int, resamples: bool = False, attends: bool = False) -> None:
        super().__init__()
        self.norm0, self.conv0 = norm(seen), nn.Conv2d(seen, out, 3)
        self.affine = nn.Linear(4 * WIDTH, out)
        self.norm1, self.conv1 = norm(out), nn.Conv2d(out, out, 3)
        if seen != out or resamples:
            self.skip = nn.Conv2d(seen, out, 1)
        if attends:
            self.norm2, self.qkv, self.proj = norm(out), nn.Conv2d(out, 3 * out, 1), nn.Conv2d(out, out, 1)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)


class SongUNet(nn.Module):
    """model_channels 64, channel_mult [1, 2], num_blocks 1, attn_resolutions [8], images of 16 pixels."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        w, residual = WIDTH, arch == "ncsnpp"
        waves = 2 * w if residual else w
        self.map_noise = nn.Module()
        if residual:
            self.map_noise.register_buffer("freqs", torch.empty(w))
        self.map_augment = nn.Linear(9, waves, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(waves, 4 * w), nn.Linear(4 * w, 4 * w)
        self.enc = nn.ModuleDict({
            "16x16_conv": nn.Conv2d(3, w, 3), "16x16_block0": Block(w, w), "8x8_down": Block(w, w, resamples=True),
            "8x8_block0": Block(w, 2 * w, attends=True),
        })  # fmt: skip
        if residual:
            self.enc["8x8_aux_residual"] = nn.Conv2d(3, w, 3)
        self.dec = nn.ModuleDict({
            "8x8_in0": Block(2 * w, 2 * w, attends=True), "8x8_in1": Block(2 * w, 2 * w),
            "8x8_block0": Block(4 * w, 2 * w), "8x8_block1": Block(3 * w, 2 * w, attends=True),
            "16x16_up": Block(2 * w, 2 * w, resamples=True), "16x16_block0": Block(3 * w, w),
            "16x16_block1": Block(2 * w, w), "16x16_aux_norm": norm(w), "16x16_aux_conv": nn.Conv2d(w, 3, 3),
        })  # fmt: skip


def weights(arch: str) -> dict[str, Tensor]:
    """The weights by EDM's names, name after name: normal numbers, of vectors 0.1 of them and from 1 on in norms."""
    draw, filled = np.random.Generator(np.random.PCG64(0)), {}
    for name, tensor in sorted(SongUNet(arch).state_dict().items()):
        numbers = torch.from_numpy(draw.standard_normal(tuple(tensor.shape))).float()
        start = float("norm" in name and name.endswith("weight"))
        gain = 16 if name.endswith("freqs") else 0.1 if tensor.dim() == 1 else 0.5 / math.sqrt(tensor[0].numel())
        filled[f"model.{name}"] = start + gain * numbers
    return filled


def inputs() -> tuple[Tensor, Tensor]:
    """States x_t (3, 3, 16, 16), and their native steps (3,): EDM's levels 1, 9 and 18 of 18."""
    x = torch.from_numpy(np.random.Generator(np.random.PCG64(1)).standard_normal((3, 3, SIZE, SIZE))).float()
    return x, torch.tensor([1, 9, 18])
