"""Sources of images, one file each; `data.source` in params.yaml is the name of the file.

To add a source, add a file with
- `open_source(data: DataSettings) -> Source` (cspipe/ingest/source.py), which raises UserError for unusable input;
- `READS_PATH`: whether the source reads data.path; if not, it makes its images, as many as data.limit;
- `OFFICIAL_SPLIT`: whether it has an official test split, so that data.held_out must be `official`;
- `PAIRED`: whether it can give pairs: an image, and the same scene with something in front;
- `DOWNLOADS = True` if it downloads missing files;
- `PUBLISHED` or `TRAIN_IMAGES` if its size is known beforehand: a Published, or the size of the official train split.
Code that several sources share is in cspipe/ingest. Worker processes import the file: no torch import at its top.
"""
