"""Attention against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from cspipe.nets.attention import PixelAttention, TokenAttention


def test_equals_the_formula_head_by_head(stir) -> None:
    attention = stir(TokenAttention(12, 4)).double()
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    heads = []
    for head in range(3):
        q, k, v = (
            tokens @ weight[start : start + 4].T + bias[start : start + 4]
            for start in (12 * part + 4 * head for part in range(3))
        )
        scores = torch.exp(q @ k.transpose(1, 2) / math.sqrt(4))
        heads.append(scores / scores.sum(2, keepdim=True) @ v)
    expected = torch.cat(heads, 2) @ attention.project.weight.T + attention.project.bias
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-12, atol=1e-12)


def test_pixels_have_no_positions(stir) -> None:
    attention = stir(PixelAttention(32, 16))
    x, order = torch.randn(2, 32, 4, 3), torch.randperm(12)
    shuffled = x.flatten(2)[:, :, order].reshape(x.shape)
    expected = attention(x).flatten(2)[:, :, order].reshape(x.shape)
    torch.testing.assert_close(attention(shuffled), expected)


def test_starts_as_the_identity() -> None:
    x = torch.randn(2, 32, 4, 3)
    assert torch.equal(PixelAttention(32, 16)(x), x)


def test_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="head_channels 24 does not divide the width 64"):
        TokenAttention(64, 24)
