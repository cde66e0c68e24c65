"""Corrections of the reverse steps, a file each; `variants.*.correction.name` in params.yaml is the file's name.

To add one, add a file with a class `Settings` derived from cspipe.sampling.correction.CorrectionSettings: the keys of
its section in params.yaml, what it needs, and how it is built.
"""
