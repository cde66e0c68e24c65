"""The nets of guided-diffusion and of DDPM's ports to PyTorch, two levels of them, with their names of weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, silu

WIDTH, HEAD = 128, 64


def norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps)


class GuidedRes(nn.Module):
    def __init__(self, channels: int, out: int, up: bool = False, down: bool = False) -> None:
        super().__init__()
        self.up, self.down = up, down
        self.in_layers = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * WIDTH, 2 * out))
        self.out_layers = nn.Sequential(norm(out), nn.SiLU(), nn.Dropout(0), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def resampled(self, x: Tensor) -> Tensor:
        if self.up:
            return interpolate(x, scale_factor=2, mode="nearest")
        return avg_pool2d(x, 2) if self.down else x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](self.resampled(self.in_layers[:2](x)))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        return self.skip_connection(self.resampled(x)) + h


class GuidedAttention(nn.Module):
    """With QKVAttentionLegacy."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv, self.proj_out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        n, c, *spatial = x.shape
        x = x.reshape(n, c, -1)
        q, k, v = self.qkv(self.norm(x)).reshape(n * c // HEAD, 3 * HEAD, -1).split(HEAD, dim=1)
        scale = 1 / math.sqrt(math.sqrt(HEAD))
        weight = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(-1)
        h = self.proj_out(torch.einsum("bts,bcs->bct", weight, v).reshape(n, c, -1))
        return (x + h).reshape(n, c, *spatial)


class Guided(nn.Module):
    """UNetModel(model_channels=128, channel_mult=(1, 2), num_res_blocks=1, resblock_updown, learn_sigma)."""

    def __init__(self) -> None:
        super().__init__()
        w, Res, List = WIDTH, GuidedRes, nn.ModuleList
        self.time_embed = nn.Sequential(nn.Linear(w, 4 * w), nn.SiLU(), nn.Linear(4 * w, 4 * w))
        self.input_blocks = List([
            List([nn.Conv2d(3, w, 3, padding=1)]), List([Res(w, w)]), List([Res(w, w, down=True)]),
            List([Res(w, 2 * w), GuidedAttention(2 * w)]),
        ])  # fmt: skip
        self.middle_block = List([Res(2 * w, 2 * w), GuidedAttention(2 * w), Res(2 * w, 2 * w)])
        self.output_blocks = List([
            List([Res(4 * w, 2 * w), GuidedAttention(2 * w)]),
            List([Res(3 * w, 2 * w), GuidedAttention(2 * w), Res(2 * w, 2 * w, up=True)]),
            List([Res(3 * w, w)]), List([Res(2 * w, w)]),
        ])  # fmt: skip
        self.out = nn.Sequential(norm(w), nn.SiLU(), nn.Conv2d(w, 6, 3, padding=1))

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        half = WIDTH // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / half)
        args = timesteps[:, None] * freqs[None]
        emb = self.time_embed(torch.cat([args.cos(), args.sin()], dim=-1))
        hs = [self.input_blocks[0][0](x)]
        for block in self.input_blocks[1:]:
            h = hs[-1]
            for layer in block:
                h = layer(h, emb)
            hs.append(h)
        h = hs[-1]
        for layer in self.middle_block:
            h = layer(h, emb)
        for block in self.output_blocks:
            h = torch.cat([h, hs.pop()], dim=1)
            for layer in block:
                h = layer(h, emb)
        return self.out(h)


class OldRes(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(channels, 1e-6), nn.Conv2d(channels, out, 3, padding=1)
        self.temb_proj = nn.Linear(4 * WIDTH, out)
        self.norm2, self.conv2 = norm(out, 1e-6), nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x))) + self.temb_proj(silu(temb))[:, :, None, None]
        h = self.conv2(silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class OldAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weight = (torch.bmm(q.transpose(1, 2), k) * q.shape[1] ** -0.5).softmax(2)
        return x + self.proj_out(torch.bmm(v, weight.transpose(1, 2)).reshape(x.shape))


class Conv(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=2 - stride)


class OldDDPM(nn.Module):
    """Model(ch=128, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=[8], resamp_with_conv)."""

    def __init__(self) -> None:
        super().__init__()
        w, Module, List = WIDTH, nn.Module, nn.ModuleList
        self.temb = Module()
        self.temb.dense = List([nn.Linear(w, 4 * w), nn.Linear(4 * w, 4 * w)])
        self.conv_in = nn.Conv2d(3, w, 3, padding=1)
        self.down, self.mid, self.up = List([Module(), Module()]), Module(), List([Module(), Module()])
        self.down[0].block, self.down[0].attn, self.down[0].downsample = List([OldRes(w, w)]), List(), Conv(w, 2)
        self.down[1].block, self.down[1].attn = List([OldRes(w, 2 * w)]), List([OldAttention(2 * w)])
        self.mid.block_1, self.mid.block_2 = OldRes(2 * w, 2 * w), OldRes(2 * w, 2 * w)
        self.mid.attn_1 = OldAttention(2 * w)
        self.up[1].block = List([OldRes(4 * w, 2 * w), OldRes(3 * w, 2 * w)])
        self.up[1].attn = List([OldAttention(2 * w), OldAttention(2 * w)])
        self.up[1].upsample = Conv(2 * w, 1)
        self.up[0].block, self.up[0].attn = List([OldRes(3 * w, w), OldRes(2 * w, w)]), List()
        self.norm_out, self.conv_out = norm(w, 1e-6), nn.Conv2d(w, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = WIDTH // 2
        freqs = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        args = t[:, None] * freqs[None]
        temb = self.temb.dense[1](silu(self.temb.dense[0](torch.cat([args.sin(), args.cos()], dim=1))))
        hs = [self.conv_in(x)]
        hs.append(self.down[0].block[0](hs[-1], temb))
        hs.append(self.down[0].downsample.conv(pad(hs[-1], (0, 1, 0, 1))))
        hs.append(self.down[1].attn[0](self.down[1].block[0](hs[-1], temb)))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(hs[-1], temb)), temb)
        for i in (0, 1):
            h = self.up[1].attn[i](self.up[1].block[i](torch.cat([h, hs.pop()], dim=1), temb))
        h = self.up[1].upsample.conv(interpolate(h, scale_factor=2.0, mode="nearest"))
        for i in (0, 1):
            h = self.up[0].block[i](torch.cat([h, hs.pop()], dim=1), temb)
        return self.conv_out(silu(self.norm_out(h)))
