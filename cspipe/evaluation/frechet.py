"""Frechet distance (Heusel et al. 2017) of the Gaussians with the means and covariances of two sets of features."""

from __future__ import annotations

from torch import Tensor, linalg

BLOCK = 2000
"""Number of rows that are converted to float64 at a time."""


def frechet(x: Tensor, y: Tensor) -> float:
    """Return ||m_x - m_y||^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)) of features (N, D) and (M, D), in float64.

    With S_x = R R^T, the roots of S_x S_y and of R^T S_y R have the same trace. R^T S_y R is symmetric: its eigenvalues
    are real, and computed in a third of the time of those of S_x S_y. R is made from the eigenvectors of S_x, which has
    no full rank with few images.
    """
    (mean_x, covariance_x), (mean_y, covariance_y) = statistics(x), statistics(y)
    values, vectors = linalg.eigh(covariance_x)
    root = vectors * values.clamp(min=0).sqrt()
    overlap = linalg.eigvalsh(root.T @ covariance_y @ root).clamp(min=0).sqrt().sum()
    return float((mean_x - mean_y).square().sum() + covariance_x.trace() + covariance_y.trace() - 2 * overlap)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) and covariance (D, D) of features (N, D), in float64."""
    mean = sum(block.double().sum(0) for block in features.split(BLOCK)) / len(features)
    centred = (block.double() - mean for block in features.split(BLOCK))
    return mean, sum(block.T @ block for block in centred) / (len(features) - 1)
