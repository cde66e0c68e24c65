"""The training methods: each state and target against its formula."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cspipe.compensation import Compensation, Weighting, estimate_to_fit
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import add_noise, eps_from_x0
from cspipe.diffusion.schedule import Schedule, cosine_schedule
from cspipe.diffusion.training_pair import TrainingPair, plain_pair
from cspipe.runtime.registry import choice, names_in
from cspipe.training.reverse_step import ReverseStep
from cspipe.training.settings import METHODS, TrainCompensation

N = 5
WAY = torch.tensor([[3, 12, 40, 80, 100], [2, 11, 39, 79, 99], [1, 10, 38, 78, 98]])
Make = Callable[..., ReverseStep]


def draw(seed: int) -> Tensor:
    return torch.randn((N, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def make() -> Make:
    """Material with C = x0 - x0_hat times `share_of_oracle`."""

    def build(share_of_oracle: float = 1.0, steps: int = 1, prediction: str = "eps", **changes: Any) -> ReverseStep:
        schedule: Schedule = cosine_schedule(100)
        x0, e = draw(0).clamp(-1, 1), draw(1)
        x0_hat = 0.4 * x0
        given: dict[str, Any] = {
            "x0": x0,
            "eps": e,
            "x_t": add_noise(x0, e, WAY[0], schedule),
            "x0_hat": x0_hat,
            "timesteps": WAY[: steps + 1],
            "z": draw(2),
            "denoise": lambda x, t: 0.4 * x0,
            "prediction": prediction,
            "schedule": schedule,
            "fitted": Compensation(
                lambda x0_hat, t: share_of_oracle * (x0 - x0_hat),
                schedule,
                Weighting(weight="kappa", scale=1.0, cap=None),
            ),
        }
        return ReverseStep(**{**given, **changes})

    return build


def pair_of(name: str, step: ReverseStep) -> TrainingPair:
    found: TrainingPair = choice(METHODS, name).pair(step)
    return found


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("steps", [1, 2])
def test_oracle_makes_the_compensated_pair_the_plain_one(make: Make, prediction: str, steps: int) -> None:
    """A step of any length with C = x0 - x0_hat lands on the forward state with the same noise."""
    given = make(steps=steps, prediction=prediction)
    plain = plain_pair(prediction, given.x0, given.eps, WAY[steps], given.schedule)  # type: ignore[arg-type]
    for ours, theirs in zip(pair_of("compensated", given), plain, strict=True):
        assert torch.allclose(ours.double(), theirs.double(), atol=1e-6)


@pytest.mark.parametrize("name", ["compensated", "noise_control", "scheduled_sampling"])
def test_target_is_the_noise_that_the_state_really_holds(make: Make, name: str) -> None:
    given = make(0.7)
    x_s, s, target, weight = pair_of(name, given)
    assert torch.equal(s, WAY[1])
    assert torch.allclose(eps_from_x0(x_s, given.x0, s, given.schedule), target)
    assert torch.equal(weight, torch.ones(N, dtype=torch.float64))


def test_noise_control_adds_noise_of_the_modules_norm(make: Make) -> None:
    given = make(0.7)
    bare = ddim_step(given.x_t, given.x0_hat, WAY[0], WAY[1], given.schedule)
    kappa = given.schedule.kappa(WAY[0], WAY[1]).reshape(-1, 1, 1, 1)
    added = (pair_of("noise_control", given).x - bare) / kappa
    c = 0.7 * (given.x0 - given.x0_hat)
    assert torch.allclose(added.flatten(1).norm(dim=1), c.flatten(1).norm(dim=1))
    assert given.z is not None
    directions = torch.nn.functional.cosine_similarity(added.flatten(1), given.z.flatten(1))
    assert torch.allclose(directions, torch.ones(N, dtype=torch.float64))


def test_weight_control_is_plain_with_the_compensated_losses_of_a_net_that_says_nothing(make: Make) -> None:
    given = make(0.3)
    control, theirs = pair_of("weight_control", given), pair_of("compensated", given)
    plain = plain_pair("eps", given.x0, given.eps, WAY[1], given.schedule)
    assert torch.equal(control.x, plain.x)
    assert torch.equal(control.target, plain.target)
    assert torch.isclose(control.loss(torch.zeros_like(control.x)), theirs.loss(torch.zeros_like(theirs.x)))
    assert torch.allclose(pair_of("weight_control", make(1.0)).weight, torch.ones(N, dtype=torch.float64))


def test_scheduled_sampling_walks_every_step_with_a_new_estimate(make: Make) -> None:
    asked: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return 0.1 * x

    given = make(steps=2, denoise=denoise)
    first = ddim_step(given.x_t, given.x0_hat, WAY[0], WAY[1], given.schedule)
    second = ddim_step(first, 0.1 * first, WAY[1], WAY[2], given.schedule)
    assert torch.allclose(pair_of("scheduled_sampling", given).x, second)
    assert len(asked) == 1  # the estimate at t is there already
    assert torch.equal(asked[0], WAY[1])


def test_scheduled_sampling_of_a_perfect_net_is_the_forward_state(make: Make) -> None:
    x0 = draw(0).clamp(-1, 1)
    given = make(steps=2, x0_hat=x0, denoise=lambda x, t: x0)
    assert torch.allclose(pair_of("scheduled_sampling", given).x, add_noise(x0, given.eps, WAY[2], given.schedule))


def test_shares_of_the_methods_over_training() -> None:
    settings = TrainCompensation(
        weight="kappa", scale=1.0, cap=None, share=0.8, fade=0.5, start=0, epochs=1, path=None, gap=1
    )
    shares = {name: [choice(METHODS, name).share(settings, at) for at in (0, 0.25, 1)] for name in names_in(METHODS)}
    for name in ("compensated", "noise_control", "weight_control"):
        assert shares[name] == pytest.approx([0.8, 0.4, 0.0])
    assert shares["scheduled_sampling"] == pytest.approx([0.0, 0.4, 0.8])
    assert shares["plain"] == [0.0, 0.0, 0.0]


def test_c_is_fit_at_forward_states_or_after_the_nets_own_step(make: Make) -> None:
    given, t = make(), torch.tensor([1, 20, 50, 99, 100])
    x0, eps, schedule = given.x0, given.eps, given.schedule

    def asked(states: str, denoise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The state at which the last estimate is made."""
        seen: list[Tensor] = []

        def keep(x: Tensor, t: Tensor) -> Tensor:
            seen.append(x)
            return denoise(x, t)

        estimate_to_fit(keep, x0, eps, t, schedule, states)  # type: ignore[arg-type]
        return seen[-1]

    assert torch.equal(asked("forward", lambda x, t: x), add_noise(x0, eps, t, schedule))
    assert torch.allclose(asked("reverse", lambda x, t: x0), add_noise(x0, eps, t, schedule))
    above = t + 1 - (t == 100).long()
    x = add_noise(x0, eps, above, schedule)
    states = asked("reverse", lambda x, t: 0.2 * x)
    assert torch.allclose(states[:4], ddim_step(x, 0.2 * x, above, t, schedule)[:4])
    assert torch.allclose(states[4], x[4])
