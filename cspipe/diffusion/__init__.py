"""The mathematics of diffusion and of compensation sampling: pure tensors, no files."""
