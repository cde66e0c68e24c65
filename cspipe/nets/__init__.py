"""The neural nets: the ADM U-Net that predicts, and the small modules that compensate its error."""

from cspipe.nets.build import build_compensation, build_main, count_parameters
from cspipe.nets.unet import UNet

__all__ = ["UNet", "build_compensation", "build_main", "count_parameters"]
