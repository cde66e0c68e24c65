"""Corrections in a row: what each sees, and what params.yaml is told of them."""

import pytest
import torch
from torch import Tensor

from cspipe.compensation import Weighting, compensation_weight
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import add_noise, per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.settings import Variant
from tests.conftest import Tree

CS = {"name": "compensation", "weight": "kappa", "scale": 0.5, "cap": None}
ES = {"name": "epsilon_scaling", "base": 1.02, "slope": 0.0}
TS = {"name": "time_shift", "window": 10, "cutoff": 20}


def of(*parts: Tree) -> Tree:
    return {"name": "several", "of": list(parts)}


def variant(correction: Tree, **more: object) -> Variant:
    row = {"sampler": "ddim", "steps": 10, "reads": "models/main", "correction": correction}
    return Variant.model_validate(row | more)


def module(x0_hat: Tensor, t: Tensor) -> Tensor:
    return torch.sin(3 * x0_hat) / 10


@pytest.mark.parametrize("parts", [(CS, ES), (ES, CS)])
def test_compensation_sees_the_scaled_estimate(parts: tuple[Tree, Tree], schedule: Schedule, x0: Tensor) -> None:
    """cs+es by hand; their order is no matter, as one acts on the estimate and the other after the step."""
    t, s = torch.full((8,), 40), torch.full((8,), 30)
    x_t = add_noise(x0 / 2, torch.ones_like(x0), t, schedule)
    correction = variant(of(*parts), reads="models").correction
    assert correction is not None
    denoise, hook = correction.build(lambda x, t: x0 / 4, schedule, module)
    assert hook is not None
    signal, noise = schedule.sqrt_alpha_bar[40], schedule.sqrt_one_minus_alpha_bar[40]
    x0_hat = (x0 / 4 + noise / signal * (1 - 1 / 1.02) * (x_t - signal * x0 / 4) / noise).clamp(-1, 1)
    weight = compensation_weight(t, s, schedule, Weighting(weight="kappa", scale=0.5, cap=None))
    expected = ddim_step(x_t, x0_hat, t, s, schedule) + per_image(weight) * module(x0_hat, t)
    assert torch.allclose(denoise(x_t, t), x0_hat, atol=1e-12)
    assert torch.allclose(hook(ddim_step(x_t, x0_hat, t, s, schedule), x0_hat, t, s), expected, atol=1e-12)


def test_several_need_and_forbid_what_one_of_them_does() -> None:
    with pytest.raises(ValueError, match="reads must be models with correction several, which needs C"):
        variant(of(ES, CS))
    with pytest.raises(ValueError, match="eta must be 0 with a correction of deterministic steps"):
        variant(of(ES, CS), reads="models", eta=0.5)
    with pytest.raises(ValueError, match="reads must be models/main with correction several"):
        variant(of(ES, TS), reads="models")
    assert variant(of(ES, TS), eta=0.5).eta == 0.5
