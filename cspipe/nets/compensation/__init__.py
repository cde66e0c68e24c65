"""The compensation module C(x0h, t), close to x0 - x0h; `compensation.net` in params.yaml names a file of this folder.

To add one, add a file with `build(image_channels, size, width) -> nn.Module`. The net is called as C(x0h, t), with x0h
(N, image channels, size, size) in [-1, 1] and t (N,) in 0..1000; it returns x0h's shape and type, and starts as C = 0.
`width` is a multiple of 16, `size` of 4. Widths of 32 to 64 fit 32 and 64 pixels; at 256 pixels take 32, 1 to 2 % of
the main net's multiplications.
"""
