"""Batches of unfinished samples, kept in files."""

from pathlib import Path

import numpy as np

from cspipe.sampling.batches import _kept


def test_a_pickle_among_kept_batches_is_made_anew_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[()]]:
            return (tmp_path / "ran").touch, ()

    images = np.full(1, Evil(), dtype=object)
    np.savez(tmp_path / "batch.npz", images=images, variances=np.zeros(6))
    assert _kept(tmp_path / "batch.npz") is None
    assert not (tmp_path / "ran").exists()
