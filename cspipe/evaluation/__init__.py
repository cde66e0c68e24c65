"""Scores of generated pictures: distances to real ones, and whether they copy the training set."""
