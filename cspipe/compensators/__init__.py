"""The compensation module C(x0h, t), close to x0 - x0h; `compensation.net` in params.yaml names a file of this folder.

To add one, add a file with `build(taken, given, size, width) -> nn.Module`. The net is called as C(x0h, t), with x0h
(N, taken, size, size) in [-1, 1], the channels of a condition after those of the image, and t (N,) in 0..1000. It
returns (N, given, size, size), the image's channels, in x0h's type, and starts as C = 0.
`width` is a multiple of 16, `size` of 4. Widths of 32 to 64 fit 32 and 64 pixels; at 256 pixels take 32, 1 to 2 % of
the main net's multiplications.
"""
