"""Corrections of the reverse steps, a file each; `variants.*.correction.name` in params.yaml is the file's name.

To add one, add a file with a class `Settings` derived from CorrectionSettings: the keys of its section in params.yaml,
what it needs, and how it is built. The file is imported to check params.yaml, so it imports torch in the functions that
need it, not at its top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cspipe.runtime.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.diffusion.process import Denoiser
    from cspipe.diffusion.schedule import Schedule

AfterStep = Callable[["Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]
"""(x_s, x0h, t, s) -> corrected x_s."""
Module = Callable[["Tensor", "Tensor"], "Tensor"]
"""C: (x0h, t) -> an estimate of x0 - x0h."""


class CorrectionSettings(Section, ABC):
    """What params.yaml says of a correction, and how that becomes one."""

    needs_module: ClassVar[bool] = False
    """Whether it uses the module C; the variant then waits for the stage that fits it."""
    deterministic: ClassVar[bool] = False
    """Whether it holds for steps without noise alone (eta 0)."""

    name: str = Field(description="the correction, a file of cspipe/corrections")

    @abstractmethod
    def build(self, denoise: Denoiser, schedule: Schedule, module: Module | None) -> tuple[Denoiser, AfterStep | None]:
        """How the net is asked at (x_t, t) under the correction, and what is done to x_s after the step.

        One that acts on the estimate, or on the time that the net is told, returns another denoiser and None; one that
        acts on the state returns `denoise` as it is and a hook. `module` is C if `needs_module`, else None.
        """

    def words(self) -> str:
        """The correction in a few words, for the report."""
        return ", ".join([self.name, *(f"{key} {value}" for key, value in self if key != "name")])
