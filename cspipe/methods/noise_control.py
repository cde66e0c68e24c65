"""Control of compensated training: noise of C's norm in place of C. What it gains as well, C need not have learned."""

from __future__ import annotations

from cspipe.diffusion.losses import Pair
from cspipe.diffusion.process import per_image
from cspipe.methods import OwnSteps, falling

USES_MODULE = DRAWS_NOISE = True
share = falling


def pair(own: OwnSteps) -> Pair:
    """x_s = DDIM(x_t, x0h; s) + w(t, s) z ||C|| / ||z||, the norms taken over each image."""
    assert own.module is not None, "USES_MODULE"
    assert own.z is not None, "DRAWS_NOISE"
    c = own.module(own.x0h, own.way[0])
    size = c.flatten(1).norm(dim=1) / own.z.flatten(1).norm(dim=1)
    return own.compensated(per_image(size) * own.z)
