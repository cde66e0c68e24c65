"""The time that the net is told, against the rule written as a loop."""

import pytest
import torch
from torch import Tensor

from cspipe.corrections.time_shift import Settings
from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState, find_step


def told(x: Tensor, t: Tensor, schedule: Schedule, window: int, cutoff: int) -> list[int]:
    """The times that the net is asked at."""
    asked: list[Tensor] = []
    settings = Settings(name="time_shift", window=window, cutoff=cutoff)
    denoise, hook = settings.build(lambda x, t: asked.append(t) or x, schedule, None)  # type: ignore[func-returns-value]
    assert torch.equal(denoise(x, t), x)
    assert hook is None
    return asked[0].tolist()


@pytest.mark.parametrize("window", [0, 1, 10, 500])
@pytest.mark.parametrize("cutoff", [0, 30])
def test_time_is_the_nearest_level_in_the_window_for_each_image(window: int, cutoff: int, schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(window)
    t = torch.randint(1, 101, (60,), generator=generator)
    scale = torch.rand(60, 1, 1, 1, generator=generator, dtype=torch.float64) * 1.2
    x = torch.randn(60, 2, 3, 3, generator=generator, dtype=torch.float64) * scale + 0.5
    expected = []
    for image, now in zip(x, t.tolist(), strict=True):
        times = [now]
        if cutoff < now < 100:
            times = [u for u in range(now - window // 2, now + window // 2 + 1) if 1 <= u <= 100]
        levels = {u: float((image.var() - schedule.sqrt_one_minus_alpha_bar[u] ** 2).abs()) for u in times}
        expected.append(min(levels, key=lambda u: levels[u]))
    assert told(x, t, schedule, window, cutoff) == expected


@pytest.mark.parametrize(("window", "cutoff"), [(0, 0), (40, 100)])
@pytest.mark.parametrize("name", ["ddim", "unipc"])
def test_no_window_and_a_high_cutoff_change_no_bit(
    name: str, window: int, cutoff: int, schedule: Schedule, e: Tensor
) -> None:
    def curve(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(2 * x + t.reshape(-1, 1, 1, 1) / 50) * 0.8

    def walk(window: int, cutoff: int) -> Tensor:
        denoise, _ = Settings(name="time_shift", window=window, cutoff=cutoff).build(curve, schedule, None)
        return sample(denoise, e, find_step(name), SamplerState(schedule, evenly_spaced(100, 20)))

    plain = sample(curve, e, find_step(name), SamplerState(schedule, evenly_spaced(100, 20)))
    assert torch.equal(plain, walk(window, cutoff))
    assert not torch.equal(plain, walk(40, 0))
