"""The sections `sample` and `variants` of params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from cspipe.data.settings import MASKS
from cspipe.diffusion.ddim import evenly_spaced
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import choice, find, names_in
from cspipe.runtime.settings import Count, Section, SettingsOf, Share, WholeNumber, file_of, key_of
from cspipe.sampling.correction import CorrectionSettings
from cspipe.sampling.state import SAMPLERS

CORRECTIONS = "cspipe.corrections"
"""Package of the corrections: their names in params.yaml are the names of its files."""

AnyCorrection = Annotated[SerializeAsAny[CorrectionSettings] | None, SettingsOf(CORRECTIONS, CorrectionSettings)]


class SampleSettings(Section):
    """Settings of all variants' samples: how many, and from which seeds."""

    images: Count = Field(description="samples per variant")
    batch: Count = Field(description="samples per forward pass; does not change them")
    seed: WholeNumber = Field(description="seed of the first sample; sample i takes seed + i")


class Repaint(Section):
    """Inpainting with a net that was trained without conditions (RePaint, Lugmayr et al. 2022)."""

    rounds: Count = Field(description="times that each step is taken; between two of them noise goes back in")
    masks: list[Annotated[str, key_of(*MASKS)]] = Field(min_length=1, description="families of holes")


def _falling(steps: int | list[int]) -> int | list[int]:
    """Return `steps`. Raises ValueError for timesteps that do not fall."""
    if isinstance(steps, list) and any(t <= s for t, s in pairwise(steps)):
        raise ValueError(f"steps {steps} must fall, as [100, 60, 20] does; 0 is left out")
    return steps


Steps = Annotated[Count | Annotated[list[Count], Field(min_length=1)], AfterValidator(_falling)]
"""Number of steps, or the timesteps at which they begin, as `timesteps` of a scheduler of diffusers."""


class Variant(Section):
    """A variant, a row of the results table: a sampler and its correction.

    The only section with defaults, as people write many of them. DVC sees a change of one: stages depend on this file.
    """

    sampler: Annotated[str, file_of(SAMPLERS)] = Field(description="ddpm is ddim with eta 1")
    steps: Steps = Field(description="reverse steps, evenly spaced, or the timesteps of the net, from T falling")
    reads: Literal["models/main", "models"] = Field(description="what DVC waits for: the main net, or C too")
    eta: Share = Field(0.0, description="0: deterministic, 1: DDPM's posterior noise")
    terminal: Literal["net", "mean"] = Field("net", description="x0_hat at T: the net's, or the mean training image")
    snapshot: Count | None = Field(None, description="images of train.snapshots: the net that samples; null: the last")
    correction: AnyCorrection = Field(None, description="what is done about the error of every step; null: nothing")
    repaint: Repaint | None = Field(None, description="fill holes with a net of task generate; null: do its task")

    @property
    def count(self) -> int:
        """Number of steps from T to 0, without repetitions."""
        return self.steps if isinstance(self.steps, int) else len(self.steps)

    @property
    def fits(self) -> bool:
        """Whether the sampler fits its steps to the net before the first sample."""
        return hasattr(choice(SAMPLERS, self.sampler), "fit")

    def path(self, native: int) -> list[int]:
        """Return the timesteps from T = `native` to 0. Raises ValueError if `steps` does not fit a net with this T."""
        if self.count > native or (isinstance(self.steps, list) and self.steps[0] != native):
            raise ValueError(f"steps {self.steps} must be a number up to {native}, or begin with {native}")
        return evenly_spaced(native, self.steps) if isinstance(self.steps, int) else [*self.steps, 0]

    @model_validator(mode="after")
    def _keys_agree(self) -> Variant:
        least, most = find(SAMPLERS, self.sampler, "ETAS")
        if not least <= self.eta <= most:
            known = f"{most:g}" if least == most else f"{least:g}..{most:g}"
            fitting = _samplers_with("ETAS", lambda etas: etas[0] <= self.eta <= etas[1])
            use = f"for eta {self.eta:g} use sampler {fitting}"
            raise ValueError(f"eta must be {known} with sampler {self.sampler}; {use}")
        if self.repaint is not None and find(SAMPLERS, self.sampler, "REMEMBERS"):
            free = _samplers_with("REMEMBERS", lambda remembers: not remembers)
            raise ValueError(
                f"repaint must be null with sampler {self.sampler}, which remembers the steps before and cannot go "
                f"back up; to repaint use sampler {free}"
            )
        correction = self.correction
        if correction is not None and self.fits:
            raise ValueError(f"correction must be null with sampler {self.sampler}, whose steps are fitted without")
        if correction is not None and correction.deterministic and self.eta > 0:
            raise ValueError(f"eta must be 0 with a correction of deterministic steps, as {correction.name} is")
        if correction is not None and correction.on_states and find(SAMPLERS, self.sampler, "CORRECTS_ESTIMATES"):
            raise ValueError(f"correction.cap must be null with sampler {self.sampler}, which corrects no states")
        if correction is not None and correction.needs_compensator and self.snapshot is not None:
            raise ValueError(f"snapshot must be null with correction {correction.name}: C is fit against the last net")
        reads = "models" if correction is not None and correction.needs_compensator else "models/main"
        if self.reads != reads:
            if correction is None:
                raise ValueError(f"reads must be {reads} without a correction")
            needs = "needs" if correction.needs_compensator else "does not need"
            raise ValueError(f"reads must be {reads} with correction {correction.name}, which {needs} C")
        return self


def _samplers_with(member: str, suits: Callable[[Any], bool]) -> str:
    """Names of the samplers whose `member` suits, joined by "or"; files that cannot be read are left out."""
    fitting = []
    for name in names_in(SAMPLERS):
        with suppress(UserError):
            if suits(find(SAMPLERS, name, member)):
                fitting.append(name)
    return " or ".join(fitting)
