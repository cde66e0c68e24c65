"""Training states in a real S3: found again elsewhere, sent in the background, and not missed in an outage."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.files import sha256_file
from cspipe.runtime.storage import QUICK, Bucket
from cspipe.runtime.storage_errors import Damaged
from tests.fixtures import FOLDER, Machine
from tests.s3_server import ACCESS_KEY, S3, SECRET_KEY

CPU = torch.device("cpu")


def save(states: Checkpoints, *seen: int) -> None:
    """Store states whose weights tell them apart, each sent before the next."""
    for number in seen:
        states.save(number, {"weights": torch.full((1000,), float(number))})
        states.flush(60)


def manifest(bucket: Bucket) -> Any:
    found = bucket.get_json(f"{FOLDER}/manifest.json")
    return None if found is None else found[0]


def kept(bucket: Bucket) -> list[int]:
    """Images seen of the states that the manifest names."""
    return [int(Path(name).name.partition("-")[0]) for name in manifest(bucket)["states"]]


def test_newest_state_is_found_on_another_machine_and_two_are_kept(bucket: Bucket, machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    assert first.load(CPU) is None
    save(first, 10, 20, 30)
    assert kept(bucket) == [20, 30]
    names = {f"{FOLDER}/{state}" for state in manifest(bucket)["states"]}
    assert set(bucket.list()) == names | {f"{FOLDER}/manifest.json"}
    seen, state = second.load(CPU)
    assert seen == 30
    assert torch.equal(state["weights"], torch.full((1000,), 30.0))
    assert manifest(bucket)["owner"] == second.mirror.lease.manifest.owner


@pytest.mark.parametrize("damage", ["changed", "gone", "foreign"])
def test_damaged_state_in_s3_is_named_and_the_one_before_is_used(
    damage: str, s3: S3, bucket: Bucket, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    save(first, 10, 20)
    listed = manifest(bucket)
    before, newest = listed["states"]
    key = f"prefix/{FOLDER}/{newest}"
    if damage == "changed":
        body = bytearray(s3.client().get_object(Bucket=bucket.bucket, Key=key)["Body"].read())
        body[len(body) // 2] ^= 1
        s3.client().put_object(Bucket=bucket.bucket, Key=key, Body=bytes(body))
    elif damage == "gone":
        s3.client().delete_object(Bucket=bucket.bucket, Key=key)
    else:
        torch.save({"key": "other", "seen": 20, "state": {}}, tmp_path / "other")
        newest = f"somebody/{20:012d}-{sha256_file(tmp_path / 'other')[:16]}.pt"
        bucket.put_file(tmp_path / "other", f"{FOLDER}/{newest}")
        bucket.put_json(f"{FOLDER}/manifest.json", {**listed, "states": [before, newest]})
    assert second.load(CPU)[0] == 10
    assert newest.partition("/")[2] in capsys.readouterr().err
    save(second, 15)
    assert kept(bucket) == [10, 15], "the damaged one is forgotten"
    assert key.removeprefix("prefix/") not in set(bucket.list())


def test_a_state_that_arrives_damaged_is_left_for_the_one_before(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    save(first, 10, 20)

    fetch = Bucket.get_file

    def get_file(bucket: Bucket, key: str, path: Path) -> None:
        if "000000000020-" in key:
            raise Damaged(f"{key}: altered since it was stored")
        fetch(bucket, key, path)

    monkeypatch.setattr(Bucket, "get_file", get_file)
    assert second.load(CPU)[0] == 10


def test_damaged_state_here_is_fetched_again(machine: Machine) -> None:
    states = machine("a")
    states.load(CPU)
    save(states, 10, 20)
    states.newest().write_bytes(b"damaged")
    assert machine("a").load(CPU)[0] == 20


def test_state_that_s3_does_not_have_yet_is_sent_at_the_start(bucket: Bucket, machine: Machine) -> None:
    alone = machine("a")
    alone.mirror = None
    save(alone, 10)
    again = machine("a")
    assert again.load(CPU)[0] == 10
    again.flush(60)
    assert kept(bucket) == [10]


def test_finished_run_leaves_nothing(bucket: Bucket, machine: Machine, tmp_path: Path) -> None:
    states = machine("a")
    states.load(CPU)
    save(states, 10, 20)
    bucket.put_json(f"{FOLDER}/nobody-1-0/000000000005-0123456789abcdef.pt", "left by a worker that lost the run")
    states.remove()
    assert list(bucket.list()) == []
    assert not (tmp_path / "a/key").exists()


def test_training_goes_on_in_an_outage_which_is_told_once_and_ridden_out(
    s3: S3, bucket: Bucket, machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cspipe.runtime.mirror.BRIEF", QUICK)  # it is told after two attempts
    states = machine("a")
    states.load(CPU)
    save(states, 10)
    s3.stop()
    try:
        for seen in (20, 30):
            path = states.save(seen, {"weights": torch.full((1000,), float(seen))})
            assert states.mirror.needs(path), "saving does not wait for S3"
        told, patience = "", time.monotonic() + 60
        while "training goes on, its state is kept here and sent later" not in told:
            assert time.monotonic() < patience, "no word of the outage"
            time.sleep(0.1)
            told += capsys.readouterr().err
        states.flush(0)
    finally:
        s3.start()
    assert states.mirror.flush(60)
    told += capsys.readouterr().err
    assert told.count("training goes on") == 1, "a line a minute"
    assert f"S3 at {s3.url} is unreachable" in told
    assert f"{states.newest()}: not in S3" in told
    assert not [secret for secret in (ACCESS_KEY, SECRET_KEY) if secret in told]
    assert kept(bucket)[-1] == 30
    assert machine("b").load(CPU)[0] == 30


def test_saving_does_not_wait_for_a_slow_upload_whose_file_is_kept(bucket: Bucket, machine: Machine) -> None:
    states = machine("a")
    states.load(CPU)
    put, began, go = states.mirror.bucket.put_file, threading.Event(), threading.Event()

    def slow(path: Path, key: str) -> str:
        began.set()
        go.wait(30)
        return put(path, key)

    object.__setattr__(states.mirror.bucket, "put_file", slow)
    paths = [states.save(10, {})]
    assert began.wait(30)
    paths += [states.save(seen, {}) for seen in (20, 30, 40, 50)]
    assert [path.exists() for path in paths] == [True, False, False, True, True]
    go.set()
    states.flush(30)
    assert kept(bucket) == [10, 50]
