"""Nets C(x0_hat, t) that estimate x0 - x0_hat, a file each; `compensation.net` in params.yaml is the file's name.

To add one, add a file with `build(in_channels, out_channels, size, width) -> nn.Module`. The net is called as
C(x0_hat, t), with x0_hat (N, in_channels, size, size) in [-1, 1], the channels of a condition after those of the image,
and t (N,) in 0..1000. It returns (N, out_channels, size, size), the image's channels, in x0_hat's type, and starts as
C = 0. `width` is a multiple of 16, `size` of 4. Widths of 32 to 64 fit 32 and 64 pixels; at 256 pixels take 32, 1 to
2 % of the main net's multiplications.
"""
