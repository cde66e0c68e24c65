"""Where images come from, a file each; `data.source` in params.yaml is the file's name.

To add one, add a file with
- `open_source(data: DataSettings) -> Source` (cspipe/ingest/source.py), which raises UserError if it cannot be used;
- `READS_PATH`: whether it reads data.path; if not, it makes its images, as many as data.limit;
- `OFFICIAL_SPLIT`: whether it has an official test split, so that data.held_out must be `official`;
- `PAIRED`: whether it can give pairs;
- `DOWNLOADS = True` if it fetches what is not there;
- `PUBLISHED` or `TRAIN_IMAGES` if its size is known beforehand: the data set, or images of the official train split.
What several of them share is in cspipe/ingest. Worker processes import the file: no torch at its top.
"""
