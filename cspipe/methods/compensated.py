"""Compensated training (arXiv 2312.06285): the net learns on its own reverse step with C added; docs/METHOD.md."""

from __future__ import annotations

from cspipe.diffusion.losses import Pair
from cspipe.methods import OwnSteps, falling

USES_MODULE, DRAWS_NOISE = True, False
share = falling


def pair(own: OwnSteps) -> Pair:
    """x_s = DDIM(x_t, x0h; s) + w(t, s) C(x0h, t). With C = x0 - x0h (the oracle) it is the plain pair at s."""
    assert own.module is not None, "USES_MODULE"
    return own.compensated(own.module(own.x0h, own.way[0]))
