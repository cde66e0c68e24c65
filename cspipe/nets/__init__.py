"""The neural nets: the backbones that predict, and the small modules that compensate their error."""
