"""The state down: which steps it takes, what it hands to them, and where a correction comes in."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.samplers.ddim import step
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState


@given(st.integers(2, 1500).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_subsequence_falls_from_native_to_zero(sizes: tuple[int, int]) -> None:
    native, steps = sizes
    times = evenly_spaced(native, steps)
    assert (len(times), times[0], times[-1]) == (steps + 1, native, 0)
    assert all(a > b for a, b in zip(times[:-1], times[1:], strict=True))


def test_hook_sees_every_step_and_its_result_is_used(schedule: Schedule, e: Tensor) -> None:
    seen = []

    def correction(x_s: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> Tensor:
        seen.append((int(t[0]), int(s[0])))
        return x_s + 1

    plain = sample(lambda x, t: torch.zeros_like(x), e, step, SamplerState(schedule, [100, 50, 0]))
    hooked = sample(lambda x, t: torch.zeros_like(x), e, step, SamplerState(schedule, [100, 50, 0]), correction)
    assert seen == [(100, 50), (50, 0)]
    assert torch.allclose(hooked, plain + 1)
    assert per_image(torch.zeros(8)).shape == (8, 1, 1, 1)
