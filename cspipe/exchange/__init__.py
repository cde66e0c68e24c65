"""Export models to other tools, import models from them, and sample from a model folder without the pipeline."""
