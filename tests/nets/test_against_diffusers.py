"""The whole nets of ADM, DDPM and DiT against diffusers' independent ones, with the same weights."""

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

from cspipe.backbones.ddpm import DDPM
from cspipe.backbones.dit import DiT
from cspipe.exchange.unet2d import unet2d_state
from cspipe.nets.unet import UNet

WIDTHS, CLASSES = (128, 256, 384), 5  # widths at which every norm has the 32 groups that theirs has
BLOCKS = 2


def test_adm(stir) -> None:
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
    )
    stir(ours)
    theirs.load_state_dict(unet2d_state(ours, len(ours.decoder), BLOCKS))
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([10.0, 437.5, 1000.0])
    torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=1e-4, atol=1e-4)


# The configuration that is published with google/ddpm-cifar10-32.
DDPM_CIFAR10 = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}


def test_ddpm_of_cifar10(stir) -> None:
    levels = {"channels": 128, "blocks": BLOCKS, "multipliers": (1, 2, 2, 2), "attention": (16,), "dropout": 0.1}
    ours = stir(DDPM(in_channels=3, out_channels=3, size=32, **levels)).eval()
    theirs = UNet2DModel(**DDPM_CIFAR10)
    state = unet2d_state(ours, len(ours.decoder), BLOCKS)
    first = "time_embedding.linear_1.weight"
    state[first] = state[first].roll(64, dims=1)  # theirs are sines, then cosines
    theirs.load_state_dict(state)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([10.0, 437.5])
    out = ours(x, t)
    assert out.std() > 0.1
    torch.testing.assert_close(out, theirs(x, t).sample, rtol=1e-4, atol=1e-4)


def reordered(layer: nn.Module, order: tuple[int, ...], parts: int) -> dict[str, Tensor]:
    """Weight and bias of a linear layer, whose outputs are so many parts, with its parts in another order."""
    return {key: torch.cat([tensor.chunk(parts)[i] for i in order]) for key, tensor in layer.state_dict().items()}


def their_dit_state(ours: DiT, theirs: DiTTransformer2DModel) -> dict[str, Tensor]:
    """Our weights under their names; there is no label in ours, so theirs is 0."""
    layers: dict[str, dict[str, Tensor]] = {
        "pos_embed.proj": ours.patches.state_dict(),
        "proj_out_1": reordered(ours.modulation, (1, 0), 2),  # scale and shift, theirs shift and scale
        "proj_out_2": {  # theirs is pixel by pixel, ours channel by channel
            key: tensor.unflatten(0, (-1, ours.patch**2)).transpose(0, 1).flatten(0, 1)
            for key, tensor in ours.head.state_dict().items()
        },
    }
    for i, block in enumerate(ours.blocks):
        place = f"transformer_blocks.{i}"
        layers |= {
            f"{place}.norm1.emb.timestep_embedder.linear_1": ours.time.mlp[0].state_dict(),
            f"{place}.norm1.emb.timestep_embedder.linear_2": ours.time.mlp[2].state_dict(),
            f"{place}.norm1.linear": reordered(block.modulation, (1, 0, 2, 4, 3, 5), 6),
            f"{place}.attn1.to_out.0": block.attention.project.state_dict(),
            f"{place}.ff.net.0.proj": block.mlp[0].state_dict(),
            f"{place}.ff.net.2": block.mlp[3].state_dict(),
        }
        for part, name in enumerate("qkv"):
            layers[f"{place}.attn1.to_{name}"] = reordered(block.attention.qkv, (part,), 3)
    state = {f"{layer}.{key}": tensor for layer, tensors in layers.items() for key, tensor in tensors.items()}
    labels = {key: torch.zeros_like(tensor) for key, tensor in theirs.state_dict().items() if "class_embedder" in key}
    return {**state, **labels}


def test_dit(stir) -> None:
    shape = {"in_channels": 3, "out_channels": 5, "size": 8}
    ours = DiT(**shape, channels=32, depth=2, head_channels=16, patch=2, dropout=0.1).eval()
    theirs = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=3,
        out_channels=5,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,
    ).eval()
    stir(ours)
    ours.time.frequencies.copy_(torch.logspace(0, -4, 128))  # theirs steps through them a little faster than the source
    positions = theirs.pos_embed.pos_embed  # sines and cosines of the column, then of the row
    torch.testing.assert_close(ours.positions, torch.cat(positions[0].chunk(4, dim=1)[::-1], dim=1))
    positions.copy_(ours.positions)
    theirs.load_state_dict(their_dit_state(ours, theirs))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([10.0, 437.5])
    out = ours(x, t)
    assert out.std() > 0.1
    their_out = theirs(x, t, torch.zeros(2, dtype=torch.long)).sample
    torch.testing.assert_close(out, their_out, rtol=1e-4, atol=1e-4)
