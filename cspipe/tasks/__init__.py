"""What the main net is trained for, a file each; `task` in params.yaml is the file's name.

To add one, add a file with
- `condition_channels(image_channels) -> int`: K, channels of the condition that the net sees beside x_t; 0: none;
- `open_conditions(settings, images, prepared) -> Conditions | None`, as in cspipe/data/conditions.py.
"""
