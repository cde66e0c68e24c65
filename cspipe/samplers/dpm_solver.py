"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): two-step multistep on the clean estimate; the last step is DDIM's.

The memory is the last estimate. A correction of the state after the step leaves that estimate unchanged, so the states
that follow are those of a trajectory that came to the corrected state with the same estimates.
"""

from __future__ import annotations

from torch import Tensor

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import per_image
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = True, False


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return x_s of DDIM's step on the estimate extrapolated to mid-step; images (N, C, H, W), timesteps (N,)."""
    x_s = ddim_step(x_t, x0_hat, t, s, state.schedule)
    if state.history:
        before, x0_hat_before = state.history
        at_t = state.schedule.half_log_snr(t)
        ratio = (state.schedule.half_log_snr(s) - at_t) / (at_t - state.schedule.half_log_snr(before))
        # At s = 0 the ratio is infinite, and x_s is the estimate itself.
        weight = state.schedule.kappa(t, s) * (ratio / 2).where(s > 0, 0)
        x_s = x_s + per_image(weight).to(x_t.dtype) * (x0_hat - x0_hat_before)
    state.history = [t, x0_hat]
    return x_s
