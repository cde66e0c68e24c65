"""What a training method is given: images on their way from t down to s, with the nets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cspipe.compensation import Compensation
from cspipe.diffusion.process import Denoiser, Prediction
from cspipe.diffusion.schedule import Schedule
from cspipe.training.settings import TrainCompensation


@dataclass(frozen=True)
class ReverseStep:
    """Images (N, C, H, W) and their timesteps (N,); everything is without gradient."""

    x0: Tensor
    eps: Tensor
    x_t: Tensor
    """add_noise(x0, eps, t)."""
    x0_hat: Tensor
    """The net's clean estimate at x_t."""
    timesteps: Tensor
    """(k + 1, N) native timesteps from t down to s >= 1, neighbours on the sampler's path."""
    z: Tensor | None
    """Fresh noise N(0, I), if the method draws it."""
    denoise: Denoiser
    prediction: Prediction
    schedule: Schedule
    fitted: Compensation | None = None
    """The compensation with C as it is, if the method uses it."""

    @property
    def t(self) -> Tensor:
        """Where the step starts."""
        return self.timesteps[0]

    @property
    def s(self) -> Tensor:
        """Where it ends."""
        return self.timesteps[-1]

    @property
    def compensation(self) -> Compensation:
        """Of a method with USES_COMPENSATOR."""
        assert self.fitted is not None
        return self.fitted


def fading(settings: TrainCompensation, progress: float) -> float:
    """settings.share, constant or falling linearly to 0 over the fraction settings.fade of training."""
    return settings.share if settings.fade == 0 else settings.share * max(0.0, 1 - progress / settings.fade)
