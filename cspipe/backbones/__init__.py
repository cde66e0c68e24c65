"""The main nets, a file each; `model.name` in params.yaml is the file's name.

To add one, add a file with a class `Settings` derived from cspipe.nets.backbone.BackboneSettings: the keys of `model`
in params.yaml, the sizes of images that it takes, and how it is built.
"""
