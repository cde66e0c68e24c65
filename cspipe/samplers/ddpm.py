"""DDPM's ancestral sampling (Ho et al. 2020): DDIM with all of the posterior's noise."""

from __future__ import annotations

from cspipe.samplers.ddim import step as step

ETAS = (1.0, 1.0)
REMEMBERS = False
