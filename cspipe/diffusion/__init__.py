"""The mathematics of diffusion: pure tensors, no files."""
