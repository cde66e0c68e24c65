"""The shared parts: how they start, and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from cspipe.nets.blocks import Resample, ResidualBlock, TimeEmbedding, frequencies, group_norm, modulate


@pytest.mark.parametrize(("width", "groups"), [(16, 4), (32, 8), (48, 8), (64, 16), (128, 32), (144, 16), (192, 32)])
def test_groups(width: int, groups: int) -> None:
    assert group_norm(width).num_groups == groups


@pytest.mark.parametrize("resample", ["same", "down", "up"])
def test_residual_block_starts_as_its_resampled_input(resample: Resample) -> None:
    x = torch.randn(2, 32, 4, 6)
    pooled = x.unflatten(2, (2, 2)).unflatten(4, (3, 2)).mean((3, 5))
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = {"same": x, "down": pooled, "up": repeated}[resample]
    out = ResidualBlock(32, 32, 8, resample=resample)(x, torch.randn(2, 8))
    torch.testing.assert_close(out, expected)


def test_time_scales_and_shifts() -> None:
    normed, scale, shift = torch.randn(2, 5, 3), torch.randn(2, 5, 1), torch.randn(2, 5, 1)
    torch.testing.assert_close(modulate(normed, torch.cat([scale, shift], 1)), normed * (1 + scale) + shift)


@pytest.mark.parametrize("resample", ["same", "down", "up"])
def test_residual_block_gradient(resample: Resample, stir) -> None:
    block = stir(ResidualBlock(16, 32, 4, resample=resample)).double()
    x = torch.randn(1, 16, 4, 4, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(block, (x, embedding), fast_mode=True)


def test_dropout_acts_in_training_only(stir) -> None:
    block = stir(ResidualBlock(16, 16, 4, dropout=0.5))
    x, embedding = torch.randn(1, 16, 4, 4), torch.randn(1, 4)
    assert not torch.equal(block(x, embedding), block(x, embedding))
    block.eval()
    assert torch.equal(block(x, embedding), block(x, embedding))


def test_close_times_differ_and_far_times_stay_bounded() -> None:
    embed = TimeEmbedding(frequencies(32), 128)
    near = embed(torch.tensor([499.0, 500.0, 1000.0]))
    assert (near[0] - near[1]).abs().max() > 1e-3
    assert near.abs().max() < 10
