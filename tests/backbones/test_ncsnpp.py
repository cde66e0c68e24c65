"""NCSN++: its parts against diffusers' independent ones, how they are joined, and the parameters of its source."""

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import FirDownsample2D, downsample_2d
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import upsample_2d
from torch import Tensor

from cspipe.backbones.ncsnpp import SCALE, NCSNpp, Smooth, fourier
from cspipe.nets.blocks import Resample, count_parameters
from cspipe.nets.time_added import TimeAddedBlock, TimeAddedStage

TAPS = (1, 3, 3, 1)
CIFAR10: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "size": 32,
    "channels": 128,
    "blocks": 4,
    "multipliers": (2, 2, 2),
    "attention": (16,),
    "dropout": 0.13,
}


@pytest.mark.parametrize(("resample", "theirs"), [("down", downsample_2d), ("up", upsample_2d)])
def test_resampling(resample: Resample, theirs: Any) -> None:
    x = torch.randn(2, 5, 8, 6)
    torch.testing.assert_close(Smooth(resample)(x), theirs(x, kernel=TAPS))


def test_step_of_the_pyramid(stir) -> None:
    step, theirs = stir(NCSNpp(**CIFAR10).pyramid[0]), FirDownsample2D(3, 256, use_conv=True, fir_kernel=TAPS)
    theirs.Conv2d_0.load_state_dict(step[1].state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(step(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("resample", ["same", "down", "up"])
def test_block_with_attention(resample: Resample, stir) -> None:
    taken, given, embedding = 128, 128 if resample == "up" else 256, 32
    resampler = None if resample == "same" else Smooth(resample)
    block = TimeAddedBlock(taken, given, embedding, 0.0, resampler, SCALE)
    stage = stir(TimeAddedStage(block, given, attends=True, gain=1.0))
    theirs = ResnetBlock2D(
        in_channels=taken,
        out_channels=given,
        temb_channels=embedding,
        eps=1e-6,
        output_scale_factor=math.sqrt(2),
        skip_time_act=True,
        use_in_shortcut=True,
        kernel="fir",
        up=resample == "up",
        down=resample == "down",
    )
    names = {"norm1": "before.0", "conv1": "first", "time_emb_proj": "shift", "norm2": "after.0", "conv2": "after.3"}
    names["conv_shortcut"] = "skip.1"
    for name, ours in names.items():
        theirs.get_submodule(name).load_state_dict(block.get_submodule(ours).state_dict())
    attention = Attention(
        given,
        heads=1,
        dim_head=given,
        eps=1e-6,
        norm_num_groups=32,
        bias=True,
        residual_connection=True,
        rescale_output_factor=math.sqrt(2),
    )
    assert stage.attention is not None
    attention.group_norm.load_state_dict(stage.attention.norm.state_dict())
    attention.to_out[0].load_state_dict(stage.attention.attention.project.state_dict())
    for part, layer in enumerate((attention.to_q, attention.to_k, attention.to_v)):
        state = stage.attention.attention.qkv.state_dict()
        layer.load_state_dict({key: tensor.chunk(3)[part] for key, tensor in state.items()})
    x, told = torch.randn(2, taken, 8, 8), torch.randn(2, embedding)
    torch.testing.assert_close(stage(x, told), attention(theirs(x, told)), rtol=1e-4, atol=1e-4)


def test_every_halving_is_joined_by_the_sum_that_stood_before(stir) -> None:
    net = stir(NCSNpp(**{**CIFAR10, "channels": 32, "blocks": 1, "size": 16})).eval()
    seen: dict[str, Tensor] = {}
    for name in ("encoder.1", "encoder.3", "encoder.2"):
        module = net.get_submodule(name)
        module.register_forward_hook(
            lambda _module, given, out, name=name: seen.update({name: out, f"{name}<": given[0]})
        )
    x = torch.randn(1, 3, 16, 16)
    skips = net.descend(x, torch.randn(1, 128))
    first = (seen["encoder.1"] + net.pyramid[0](x)) / math.sqrt(2)
    second = (seen["encoder.3"] + net.pyramid[1](first)) / math.sqrt(2)
    torch.testing.assert_close(seen["encoder.2<"], first)  # it goes on from the sum, which is what the way up joins too
    torch.testing.assert_close(skips[2], first)
    torch.testing.assert_close(skips[4], second)
    assert len(skips) == 6


def test_parameters_of_cifar10() -> None:
    """Those of the source's code (Karras et al. 2022, unconditional, without augmentation)."""
    with torch.device("meta"):
        assert count_parameters(NCSNpp(**CIFAR10)) == 56_395_523


def test_fourier_frequencies_are_distributed_as_those_of_the_source() -> None:
    """Absolute values of a normal distribution of deviation 16, in turns per 1000 units of t."""
    turns = fourier(4000) * 1000 / (2 * math.pi) / 16
    assert (turns > 0).all()
    assert float(turns.square().mean()) == pytest.approx(1, rel=0.01)
    for deviations, share in ((0.5, 0.3829), (1.0, 0.6827), (2.0, 0.9545)):
        assert float((turns < deviations).float().mean()) == pytest.approx(share, abs=1e-3)
