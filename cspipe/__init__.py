"""cspipe: train diffusion models with compensation sampling (arXiv 2312.06285), reproducibly."""

__version__ = "0.1.0"
