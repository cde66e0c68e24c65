"""The ONNX file in onnxruntime: the same images, for batches of any size."""

from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from cspipe.exchange.onnx_file import write_onnx
from cspipe.exchange.source import open_source
from tests.conftest import MODELS
from tests.exchange.conftest import Stored
from tests.exchange.test_diffusers_folder import noise, ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "terminal", "large"),
    [*((name, "net", False) for name in MODELS), ("adm", "mean", False), ("dit", "net", True)],
)
def test_draws_our_compensated_images(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, name: str, terminal: Any, large: bool
) -> None:
    """Also where the weights are too large for the file itself."""
    if large:
        monkeypatch.setattr("cspipe.exchange.onnx_file.LARGEST", 0)
    models = stored({"model": MODELS[name]}, mean=True)
    file = models.parent / "step.onnx"
    said = write_onnx(open_source(models / "main", models / "compensation", terminal), file)
    assert ((models.parent / "step.onnx.data").exists(), "step.onnx.data" in said) == (large, large)
    session = onnxruntime.InferenceSession(file)
    for count in (1, 3):
        x = noise(count).numpy()
        for t, s in pairwise([10, 8, 6, 4, 2, 0]):
            times = {"t": np.full(count, t), "s": np.full(count, s)}
            x, _ = session.run(None, {"x_t": x, **times})
        expected = ours(models, noise(count), 5, compensated=True, terminal=terminal)
        torch.testing.assert_close(torch.from_numpy(x).clamp(-1, 1), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_net_told_of_its_input_and_its_estimate_takes_them(stored: Stored) -> None:
    models = stored({"task": "inpaint", "diffusion.self_condition": True})
    file, told = models.parent / "step.onnx", torch.rand(2, 4, 8, 8).round() * 2 - 1
    assert "inputs x_t, t, s, told" in write_onnx(open_source(models / "main", models / "compensation"), file)
    session, x = onnxruntime.InferenceSession(file), noise(2).numpy()
    x0_hat = np.zeros_like(x)
    for t, s in pairwise([10, 8, 6, 4, 2, 0]):
        times = {"t": np.full(2, t), "s": np.full(2, s)}
        x, x0_hat = session.run(None, {"x_t": x, **times, "told": np.concatenate([told.numpy(), x0_hat], 1)})
    expected = ours(models, noise(2), 5, compensated=True, told=told)
    torch.testing.assert_close(torch.from_numpy(x).clamp(-1, 1), expected, rtol=0, atol=1e-4)
