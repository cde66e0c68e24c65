"""The main nets, a file each; `model.name` in params.yaml is the file's name, with hyphens for underscores.

To add one, add a file with a class `Settings` derived from BackboneSettings: the keys of `model` in params.yaml, the
sizes of pictures that it takes, and how it is built. The file is imported to check params.yaml, so it imports torch in
the functions that need it, not at its top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from cspipe.runtime.settings import Section

if TYPE_CHECKING:
    from torch import nn


class BackboneSettings(Section, ABC):
    """What params.yaml says of the main net, and how that becomes one."""

    name: str = Field(description="the main net, a file of cspipe/backbones")

    @abstractmethod
    def check_size(self, size: int) -> None:
        """Whether it takes pictures of size x size pixels. Raises ValueError naming key, value and fix."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """The net, called as net(x, t) with x (N, in_channels, size, size) and t (N,) in 0..1000.

        It returns (N, out_channels, size, size) in x's type, also under autocast; its output starts at 0. A condition
        stands in the channels of x after those of the picture. A state dict of it holds parameters alone.
        """
