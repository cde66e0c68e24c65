"""A SongUNet of EDM of two levels with its names of weights, its two preconditionings and its sampler, by the paper.

Its own code is in no package and not ours to copy. `fill` gives the weights with which that code was run by hand:
`RECORDED` is what it put out.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad, silu

WIDTH, SIZE, LEVELS = 64, 16, 18


class Block(nn.Module):
    """Both convolutions behind a norm; time added between; attention; each sum divided by sqrt(2)."""

    def __init__(self, seen: int, out: int, resample: Callable[[Tensor], Tensor] | None = None, attends: bool = False):
        super().__init__()
        self.resample = resample or (lambda x: x)
        self.norm0, self.conv0 = norm(seen), nn.Conv2d(seen, out, 3, padding=1)
        self.affine = nn.Linear(4 * WIDTH, out)
        self.norm1, self.conv1 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        if seen != out or resample:
            self.skip = nn.Conv2d(seen, out, 1)
        if attends:
            self.norm2, self.qkv, self.proj = norm(out), nn.Conv2d(out, 3 * out, 1), nn.Conv2d(out, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(self.resample(silu(self.norm0(x)))) + self.affine(emb)[:, :, None, None]
        h = self.conv1(silu(self.norm1(h)))
        h = (h + (self.skip(self.resample(x)) if hasattr(self, "skip") else x)) / math.sqrt(2)
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (-1, 3)).unbind(2)  # a channel's three in turn
            weight = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(q.shape[1])).softmax(2)
            h = (h + self.proj(torch.einsum("nqk,nck->ncq", weight, v).reshape(h.shape))) / math.sqrt(2)
        return h


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels, 1e-6)


def smooth(x: Tensor, gain: float = 1.0) -> Tensor:
    """[1, 3, 3, 1] along rows and columns of every channel, without a border."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8 * gain
    return conv2d(x.flatten(0, 1)[:, None], torch.outer(row, row)[None, None]).unflatten(0, x.shape[:2])[:, :, 0]


def smooth_down(x: Tensor) -> Tensor:
    return smooth(pad(x, (1, 1, 1, 1)))[:, :, ::2, ::2]


def smooth_up(x: Tensor) -> Tensor:
    """Zeros between the pixels, then the filter."""
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    return smooth(pad(spread, (2, 1, 2, 1)), 2.0)


class SongUNet(nn.Module):
    """model_channels 64, channel_mult [1, 2], num_blocks 1, attn_resolutions [8], images of 16 pixels."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        w, residual = WIDTH, arch == "ncsnpp"
        waves = 2 * w if residual else w
        down: Callable[[Tensor], Tensor] = smooth_down if residual else lambda x: avg_pool2d(x, 2)
        up: Callable[[Tensor], Tensor] = smooth_up if residual else lambda x: interpolate(x, scale_factor=2.0)
        self.map_noise = nn.Module()
        if residual:
            self.map_noise.register_buffer("freqs", torch.randn(w))
        self.map_augment = nn.Linear(9, waves, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(waves, 4 * w), nn.Linear(4 * w, 4 * w)
        self.enc = nn.ModuleDict({
            "16x16_conv": nn.Conv2d(3, w, 3, padding=1), "16x16_block0": Block(w, w), "8x8_down": Block(w, w, down),
            "8x8_block0": Block(w, 2 * w, attends=True),
        })  # fmt: skip
        if residual:
            self.enc["8x8_aux_residual"] = nn.Conv2d(3, w, 3, padding=1)
        self.dec = nn.ModuleDict({
            "8x8_in0": Block(2 * w, 2 * w, attends=True), "8x8_in1": Block(2 * w, 2 * w),
            "8x8_block0": Block(4 * w, 2 * w), "8x8_block1": Block(3 * w, 2 * w, attends=True),
            "16x16_up": Block(2 * w, 2 * w, up), "16x16_block0": Block(3 * w, w), "16x16_block1": Block(2 * w, w),
            "16x16_aux_norm": norm(w), "16x16_aux_conv": nn.Conv2d(w, 3, 3, padding=1),
        })  # fmt: skip

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        freqs = torch.tensor(10_000.0) ** (-torch.arange(WIDTH // 2) / (WIDTH // 2 - 1))
        if hasattr(self.map_noise, "freqs"):
            freqs = 2 * math.pi * self.map_noise.freqs
        angles = c_noise[:, None] * freqs
        emb = silu(self.map_layer1(silu(self.map_layer0(torch.cat([angles.sin(), angles.cos()], 1)))))
        skips = [self.enc["16x16_conv"](x)]
        skips.append(self.enc["16x16_block0"](skips[-1], emb))
        h = self.enc["8x8_down"](skips[-1], emb)
        if "8x8_aux_residual" in self.enc:
            layer = self.enc["8x8_aux_residual"]
            wide = smooth(conv2d(x, layer.weight, padding=2))[:, :, ::2, ::2] + layer.bias[:, None, None]
            h = (h + wide) / math.sqrt(2)
        skips += [h, self.enc["8x8_block0"](h, emb)]
        h = self.dec["8x8_in1"](self.dec["8x8_in0"](skips[-1], emb), emb)
        for name in ("8x8_block0", "8x8_block1", "16x16_up", "16x16_block0", "16x16_block1"):
            h = self.dec[name](h if name == "16x16_up" else torch.cat([h, skips.pop()], 1), emb)
        return self.dec["16x16_aux_conv"](silu(self.dec["16x16_aux_norm"](h)))


class Precond(nn.Module):
    """D(x; sigma) of EDMPrecond or VPPrecond, whose weights are named `model.*` (Karras et al. 2022, table 1)."""

    def __init__(self, arch: str, precond: str) -> None:
        super().__init__()
        self.model, self.precond = SongUNet(arch), precond

    def output(self, x_t: Tensor, sigma: Tensor) -> Tensor:
        """F of x_t = x / sqrt(1 + sigma^2), which is of variance 1 for clean pixels of variance 1."""
        if self.precond == "edm":
            scale = ((1 + sigma**2) / (sigma**2 + 0.25)).sqrt()
            return self.model(scale[:, None, None, None] * x_t, sigma.log() / 4)
        time = ((0.01 + 2 * 19.9 * torch.log1p(sigma.double() ** 2)).sqrt() - 0.1) / 19.9
        return self.model(x_t, (999 * time).float())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        F, sigma = self.output(x / (1 + sigma**2).sqrt()[:, None, None, None], sigma), sigma[:, None, None, None]
        if self.precond == "vp":
            return x - sigma * F
        return 0.25 / (sigma**2 + 0.25) * x + 0.5 * sigma / (sigma**2 + 0.25).sqrt() * F


def fill(net: nn.Module) -> nn.Module:
    """Weights, name after name: normal numbers, of vectors 0.1 of them and from 1 on in norms."""
    draw = np.random.Generator(np.random.PCG64(0))
    for name, tensor in sorted(net.state_dict().items()):
        if not name.endswith("resample_filter"):
            numbers = torch.from_numpy(draw.standard_normal(tuple(tensor.shape))).float()
            start = float("norm" in name and name.endswith("weight"))
            gain = 16 if name.endswith("freqs") else 0.1 if tensor.dim() == 1 else 0.5 / math.sqrt(tensor[0].numel())
            tensor.copy_(start + gain * numbers)
    return net


def inputs() -> tuple[Tensor, Tensor]:
    """States x_t (3, 3, 16, 16) and their sigmas (3,): EDM's levels 1, 9 and 18 of 18."""
    x = torch.from_numpy(np.random.Generator(np.random.PCG64(1)).standard_normal((3, 3, SIZE, SIZE))).float()
    roots = np.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), LEVELS)[[0, 8, 17]]
    return x, torch.from_numpy(roots**7).float()
