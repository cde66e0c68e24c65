"""Ways to make the main net's training states, a file each; `train.method` in params.yaml is the file's name.

A share of every batch takes the method's path: states that the net itself reaches by reverse steps, or a control of
them. The rest is the plain loss. To add a method, add a file with

- `USES_COMPENSATOR`: whether the net C is fit in training;
- `DRAWS_NOISE`: whether `pair` needs the noise `step.z`;
- `share(settings, progress)`: the share of a batch that takes the path, after a fraction `progress` of training, 0..1;
- `pair(step: ReverseStep) -> TrainingPair`: states and targets of the images in `step`; called without gradient.
"""
