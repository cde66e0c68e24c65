"""Tasks that the main net is trained for, a file each; `task` in params.yaml is the file's name.

A new task also needs its name in config/params.py, report/page.py and evaluation/baselines.py. A file has
- `condition_channels(image_channels) -> int`: K, channels of the condition that the net sees beside x_t; 0: none;
- `open_conditions(settings, images, prepared) -> Conditions | None`, as in cspipe/data/conditions.py.
"""
