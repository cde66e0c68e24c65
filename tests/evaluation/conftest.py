"""How the tests of the evaluation compare images."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.evaluation.scores import Measure
from tests.evaluation.tiny import TINY


@pytest.fixture
def new_measure(tmp_path: Path) -> Callable[..., Measure]:
    """Builds a Measure with the tiny extractor, its cache in a fresh folder; keywords replace its settings."""

    def build(**changes: Any) -> Measure:
        settings: dict[str, Any] = {"extractor": TINY, "batch": 32, "kid_subsets": 1, "kid_subset_size": 10_000}
        return Measure(**(settings | changes), device=torch.device("cpu"), cache=tmp_path / "features")

    return build


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that makes a file when it is read; at the end, there must be none."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[()]]:
            return (tmp_path / "ran").touch, ()

    yield pickle.dumps(Evil(), 2)
    assert not (tmp_path / "ran").exists()
