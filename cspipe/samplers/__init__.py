"""Samplers, a file each; `variants.*.sampler` in params.yaml is the file's name.

To add one, add a file with

- `step(x_t, x0_hat, t, s, state) -> x_s`: images (N, C, H, W), timesteps (N,) on the device, s < t, the same for all;
- `ETAS`: the least and the largest eta that it knows;
- `REMEMBERS`: whether it keeps anything in `state.history`. Such a sampler says what becomes of that when a correction
  changes x_s after the step, and it cannot go back up (`repaint`);
- `CORRECTS_ESTIMATES`: whether a correction acts on every estimate of the net, in place of the state after a step.

It may have `fit(sampler) -> sampler`: what is done once before the first image, with no images and no correction.
A step that needs a second estimate asks `state.denoise`, like `heun.py`.
"""
