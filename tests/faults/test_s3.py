"""Training with its states in S3, behind a network and a store that fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.ends import End
from cspipe.runtime.files import sha256_file
from cspipe.runtime.mirror import Mirror
from cspipe.runtime.storage import Bucket
from tests.faults.conftest import Before
from tests.faults.proxy import FAULTS, REFUSALS, Proxy
from tests.faults.workspace import FORK, hashes, refused, start
from tests.fixtures import FOLDER
from tests.s3_server import S3

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
LARGE = 5_000_000
"""Numbers in a state that is sent in three parts."""


@pytest.fixture
def proxies(s3: S3) -> Iterator[Any]:
    """Make proxies in front of the store."""
    made: list[Proxy] = []

    def make(share: float, seed: int, *faults: str) -> Proxy:
        made.append(Proxy(s3.port, share, seed, faults or FAULTS))
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


def stored(s3: S3, bucket: str) -> dict[str, bytes]:
    """All training states in a bucket, by their keys, asked of the store itself."""
    client = s3.client()
    found = client.list_objects_v2(Bucket=bucket, Prefix="x/states/").get("Contents", [])
    keys = [entry["Key"] for entry in found if entry["Key"].endswith(".pt")]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def until_done(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The training, run again and again until it ends well; how often, and what the last run said."""
    for runs in range(1, 20):
        started = start(folder, ("train",), **environment)
        if started.end() == 0:
            return runs, started.told
        assert started.said is not None
        refused(started, started.said.end, started.said.message)
    pytest.fail("never done")


@pytest.mark.parametrize("seed", range(6))
def test_training_through_faults_ends_with_the_same_bytes_and_whole_states(
    seed: int, before: Before, undisturbed: Path, s3: S3, proxies: Any, tmp_path: Path
) -> None:
    """Nearly half of all requests meet a fault; then another machine finds the finished state in S3, as badly."""
    first, other = before("a", ("train",)), before("b", ("train",))
    proxy, bucket = proxies(0.45, seed), s3.new_bucket()
    environment = {**s3.env, "CSPIPE_S3": f"s3://{bucket}/x", "CSPIPE_FLOW_RUN": "flow", "AWS_ENDPOINT_URL": proxy.url}
    runs, _ = until_done(first, environment)
    made = hashes(first)
    assert made == {name: hashes(undisturbed)[name] for name in made}
    states = stored(s3, bucket)
    assert states
    for key, content in states.items():
        (tmp_path / "state").write_bytes(content)
        assert sha256_file(tmp_path / "state")[:16] in key, "half a state"
    again, told = until_done(other, environment)
    assert "going on from" in told
    assert hashes(other) == made
    fired = ", ".join(f"{count} {name}" for name, count in sorted(proxy.fired.items()))
    faults = f"{proxy.asked} requests, {sum(proxy.fired.values())} with faults ({fired})"
    print(f"S3, seed {seed}: {faults}; {runs} and {again} runs; states lost or half: 0")


ENDS = {"500": End.S3_AWAY, "503": End.S3_AWAY, "429": End.S3_AWAY, "400": End.FAILED}


@pytest.mark.parametrize(("status", "end"), ENDS.items())
def test_refusals_that_last_are_told_before_any_work(
    status: str, end: End, before: Before, s3: S3, proxies: Any
) -> None:
    """Those of a busy store are waited for by a flow; credentials that ran out are for people."""
    folder, bucket = before("a", ("train",)), s3.new_bucket()
    there = hashes(folder)
    environment = {**s3.env, "CSPIPE_S3": f"s3://{bucket}/x", "AWS_ENDPOINT_URL": proxies(1.0, 0, status).url}
    refused(start(folder, ("train",), **environment), end, REFUSALS[status])
    assert hashes(folder) == there


def _train(url: str, root: Path, environment: dict[str, str]) -> None:
    """A process that stores a small state and then a large one."""
    os.environ.update(environment)
    states = Checkpoints(root, "key", Mirror(Bucket.from_url(url), FOLDER, "flow"))
    states.load(CPU)
    for seen, count in ((10, 10), (20, LARGE)):
        states.save(seen, {"weights": torch.full((count,), float(seen))})
        states.flush(60)


def test_upload_that_is_killed_half_way_leaves_the_state_before(
    bucket: Bucket, s3: S3, proxies: Any, tmp_path: Path
) -> None:
    """Killed after one of the parts, and after two."""
    for parts in (1, 2):
        proxy = proxies(1.0, 0, "slow")
        arguments = (bucket.url, tmp_path / f"killed-{parts}", {**s3.env, "AWS_ENDPOINT_URL": proxy.url})
        process = FORK.Process(target=_train, args=arguments)
        process.start()
        patience = time.monotonic() + 120
        while uploaded(s3, bucket.bucket) < parts:
            assert process.exitcode is None
            assert time.monotonic() < patience
            time.sleep(0.02)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        other = Checkpoints(tmp_path / f"other-{parts}", "key", Mirror(bucket, FOLDER, "flow"))
        found = other.load(CPU)
        assert found is not None
        assert found[0] == 10
        assert torch.equal(found[1]["weights"], torch.full((10,), 10.0))
        assert [key for key in bucket.list() if "000000000020-" in key] == []
        for upload in s3.client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", []):
            s3.client().abort_multipart_upload(Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    print("S3, uploads killed after 1 and 2 of 3 parts: the state before is found; half states: 0")


def uploaded(s3: S3, bucket: str) -> int:
    """Parts of unfinished uploads."""
    client = s3.client()
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    asked = [client.list_parts(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"]) for each in uploads]
    return sum(len(answer.get("Parts", [])) for answer in asked)
