"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): two-step multistep on the clean estimate; the last step is DDIM's.

The memory is the last estimate. A correction of the state after the step leaves it as the net gave it, so the states
that follow are those of a walk that came to the corrected state with the same estimates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.diffusion.process import per_image
from cspipe.samplers.ddim import ddim_step

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.diffusion.schedule import Schedule
    from cspipe.samplers import Walk

ETAS = (0.0, 0.0)
REMEMBERS = True


def step(x_t: Tensor, x0h: Tensor, t: Tensor, s: Tensor, walk: Walk) -> Tensor:
    """x_s: DDIM's step on the estimate extrapolated to the middle of the step; images (N, C, H, W), steps (N,)."""
    x_s = ddim_step(x_t, x0h, t, s, walk.schedule)
    if walk.past:
        before, x0h_before = walk.past
        at_t = half_log_snr(t, walk.schedule)
        ratio = (half_log_snr(s, walk.schedule) - at_t) / (at_t - half_log_snr(before, walk.schedule))
        # At s = 0 the ratio is infinite, and x_s the estimate itself.
        weight = walk.schedule.kappa(t, s) * (ratio / 2).where(s > 0, 0)
        x_s = x_s + per_image(weight).to(x_t.dtype) * (x0h - x0h_before)
    walk.past = [t, x0h]
    return x_s


def half_log_snr(t: Tensor, schedule: Schedule) -> Tensor:
    """lambda_t = log(sqrt(ab_t) / sqrt(1 - ab_t)) in float64, shape of t; infinite at t = 0."""
    return schedule.signal[t].double().log() - schedule.noise[t].double().log()
