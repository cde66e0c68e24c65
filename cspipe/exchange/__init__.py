"""Models for other tools and from them: export, import, and samples of a model folder without a pipeline around it."""
