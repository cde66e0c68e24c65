"""Scores of generated images: distances to real ones, and whether they copy the training set."""
