"""Samplers, a file each; `variants.*.sampler` in params.yaml is the file's name.

To add one, add a file with

- `step(x_t, x0_hat, t, s, state) -> x_s`: images (N, C, H, W), timesteps (N,) on the device, s < t, the same for all;
- `ETAS`: the least and the largest eta that it supports;
- `REMEMBERS`: whether it keeps anything in `state.history`. The docstring of such a sampler says what happens to that
  when a correction changes x_s after the step; it cannot step back up to larger timesteps (`repaint`);
- `CORRECTS_ESTIMATES`: whether a correction acts on every estimate of the net, in place of the state after a step.

It may have `fit(sampler) -> sampler`, called once before the first image, without training images and correction.
A step that needs a second estimate calls `state.denoise`, like `heun.py`.
"""
