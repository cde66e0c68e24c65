"""The input of a training method: images to be stepped from t down to s, with the nets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cspipe.compensation import Compensation
from cspipe.diffusion.process import Denoiser, Prediction
from cspipe.diffusion.schedule import Schedule
from cspipe.training.settings import TrainCompensation


@dataclass(frozen=True)
class ReverseStep:
    """Input of a training method: images (N, C, H, W), their timesteps and the nets, all without gradient."""

    x0: Tensor
    eps: Tensor
    x_t: Tensor
    """Forward states add_noise(x0, eps, t)."""
    x0_hat: Tensor
    """The net's clean estimate at x_t."""
    timesteps: Tensor
    """(gap + 1, N) native timesteps from t down to s >= 1, neighbours on the sampler's path."""
    z: Tensor | None
    """Fresh noise N(0, I) in the shape of x0; None if the method does not draw any."""
    denoise: Denoiser
    prediction: Prediction
    schedule: Schedule
    fitted: Compensation | None = None
    """Compensation with the current C; None if the method does not use C."""

    @property
    def t(self) -> Tensor:
        """Timesteps (N,) at which the step starts."""
        return self.timesteps[0]

    @property
    def s(self) -> Tensor:
        """Timesteps (N,) at which the step ends."""
        return self.timesteps[-1]

    @property
    def compensation(self) -> Compensation:
        """The compensation, only for a method with USES_COMPENSATOR."""
        assert self.fitted is not None
        return self.fitted


def fading(settings: TrainCompensation, progress: float) -> float:
    """Return settings.share, constant or falling linearly to 0 over the fraction settings.fade of training."""
    return settings.share if settings.fade == 0 else settings.share * max(0.0, 1 - progress / settings.fade)
