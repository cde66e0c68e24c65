"""Machines that share nothing but a bucket of a real S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cspipe.storage import Bucket
from cspipe.training.checkpoint import Checkpoints
from cspipe.training.mirror import Mirror
from tests.s3_server import S3

FOLDER = "states/train/key"
Machine = Callable[[str], Checkpoints]


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3.new_bucket(), "prefix")


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path) -> Machine:
    """machine("a"): the run's states on a machine, which shares nothing but the bucket with the others."""
    return lambda name: Checkpoints(tmp_path / name, "key", Mirror(Bucket(bucket.bucket, bucket.prefix), FOLDER))
