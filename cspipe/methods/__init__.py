"""Ways to make the main net's training states, a file each; `train.method` in params.yaml is the file's name.

A share of every batch takes the method's path: states that the net itself reaches by reverse steps, or a control of
them. The rest is the plain loss. To add a method, add a file with
- `USES_MODULE`: whether the module C is fit in training;
- `DRAWS_NOISE`: whether it needs `own.z`;
- `share(settings, progress)`: the share of a batch that takes the path, after a fraction `progress` of training, 0..1;
- `pair(own) -> Pair`: what these images are to the net. It is called without gradient.
The file is found by its name when params.yaml is checked, and imported when training starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cspipe.config.params import TrainCompensation
from cspipe.corrections import Module
from cspipe.corrections.compensation import CompensationWeight
from cspipe.diffusion.losses import Pair, pair_at
from cspipe.diffusion.process import Denoiser, Prediction
from cspipe.diffusion.schedule import Schedule
from cspipe.samplers.ddim import ddim_step


@dataclass(frozen=True)
class OwnSteps:
    """What a method makes its states from; images (N, C, H, W), steps (N,)."""

    x0: Tensor
    e: Tensor
    x_t: Tensor
    """The forward state at the first step of `way`."""
    x0h: Tensor
    """The net's clean estimate there."""
    way: Tensor
    """(k, N) native steps from t down to s >= 1, neighbours on the sampler's path."""
    z: Tensor | None
    """Fresh noise N(0, I), if the method draws it."""
    denoise: Denoiser
    prediction: Prediction
    schedule: Schedule
    module: Module | None
    """C, if the method uses it."""
    weight: CompensationWeight

    def compensated(self, c: Tensor) -> Pair:
        """The state after one DDIM step from t to s with w(t, s) c added, c (N, C, H, W)."""
        t, s = self.way[0], self.way[-1]
        x_s = ddim_step(self.x_t, self.x0h, t, s, self.schedule) + self.weight(t, s).reshape(-1, 1, 1, 1) * c
        return pair_at(self.prediction, self.x0, x_s, s, self.schedule)


def falling(settings: TrainCompensation, progress: float) -> float:
    """settings.share, constant or falling linearly to 0 over the fraction settings.fade of training."""
    return settings.share if settings.fade == 0 else settings.share * max(0.0, 1 - progress / settings.fade)
