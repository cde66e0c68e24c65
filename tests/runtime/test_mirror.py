"""Training states in a real S3: found again elsewhere, owned by one worker at a time, and not missed in an outage."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.runtime import mirror
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.mirror import RemoteState, TakenOver
from cspipe.runtime.storage import QUICK, Bucket
from cspipe.runtime.storage_errors import StorageError, Unreachable
from tests.fixtures import FOLDER, Machine
from tests.s3_server import ACCESS_KEY, S3, SECRET_KEY

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners give no sign of life between their states, and it takes a tenth of a second to see that."""
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(mirror, "LOOKS", 2)


def save(states: Checkpoints, *seen: int) -> None:
    """Store states whose weights tell them apart, each sent before the next."""
    for number in seen:
        states.save(number, {"weights": torch.full((1000,), float(number))})
        states.flush(60)


def manifest(bucket: Bucket) -> Any:
    found = bucket.get_json(f"{FOLDER}/manifest.json")
    return None if found is None else found[0]


def test_newest_state_is_found_on_another_machine_and_two_are_kept(bucket: Bucket, machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    assert first.load(CPU) is None
    save(first, 10, 20, 30)
    kept = manifest(bucket)
    assert [state["seen"] for state in kept["states"]] == [20, 30]
    names = {f"{FOLDER}/{state['name']}" for state in kept["states"]}
    assert set(bucket.list()) == names | {f"{FOLDER}/manifest.json"}
    seen, state = second.load(CPU)
    assert seen == 30
    assert torch.equal(state["weights"], torch.full((1000,), 30.0))
    assert manifest(bucket)["owner"] == second.mirror.owner


def test_earlier_owner_stops_at_its_next_state_and_overwrites_nothing(bucket: Bucket, machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    save(first, 10)
    second.load(CPU)
    save(second, 20)
    before = manifest(bucket)
    with pytest.raises(TakenOver, match=rf"another worker took over this run \({second.mirror.owner}\); this one"):
        save(first, 20)
    with pytest.raises(TakenOver):
        save(first, 30)
    with pytest.raises(TakenOver):
        first.remove()
    assert manifest(bucket) == before
    assert machine("c").load(CPU)[0] == 20


def test_one_of_two_that_start_at_the_same_moment_wins_and_the_other_waits(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new run at first, then the same one taken over again and again."""

    class Waiting(Exception):
        pass

    for attempt in range(6):
        runs = [machine(f"{attempt}{name}") for name in "ab"]
        start = threading.Barrier(2)

        def load(states: Checkpoints, start: threading.Barrier = start) -> bool:
            write, wait, waits = states.mirror._write, states.mirror._wait_for_owner, []

            def write_together(rows: list[RemoteState]) -> None:
                start.wait(10)  # both have read the manifest, neither has written it
                write(rows)

            def wait_once() -> None:
                if waits:
                    raise Waiting
                waits.append(wait())

            states.mirror._write, states.mirror._wait_for_owner = write_together, wait_once
            try:
                states.load(CPU)
            except Waiting:
                return False
            return True

        with ThreadPoolExecutor(2) as workers:
            assert sum(workers.map(load, runs)) == 1


def test_run_whose_owner_writes_in_between_is_taken_over_all_the_same(machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    save(first, 10)
    read = second.mirror._read

    def read_and_be_late() -> str | None:
        owner = read()
        second.mirror._read = read
        save(first, 20)
        return owner

    second.mirror._read = read_and_be_late
    assert second.load(CPU)[0] == 20
    with pytest.raises(TakenOver):
        save(first, 30)


def test_answer_that_was_lost_does_not_lose_the_run(machine: Machine) -> None:
    """S3 took the manifest, its answer never came, and the second try finds it changed, by ourselves."""
    states = machine("a")
    states.load(CPU)
    put = states.mirror.bucket.put_json

    def put_twice(key: str, value: Any, **condition: Any) -> str:
        put(key, value, **condition)
        return put(key, value, **condition)

    object.__setattr__(states.mirror.bucket, "put_json", put_twice)
    save(states, 10, 20)
    assert machine("b").load(CPU)[0] == 20


@pytest.mark.parametrize("damage", ["changed", "gone", "foreign"])
def test_damaged_state_in_s3_is_named_and_the_one_before_is_used(
    damage: str, s3: S3, bucket: Bucket, machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    save(first, 10, 20)
    newest = manifest(bucket)["states"][-1]
    key = f"prefix/{FOLDER}/{newest['name']}"
    if damage == "changed":
        s3.client().put_object(Bucket=bucket.bucket, Key=key, Body=b"x" * newest["size"])
    elif damage == "gone":
        s3.client().delete_object(Bucket=bucket.bucket, Key=key)
    else:
        torch.save({"key": "other", "seen": 20, "state": {}}, tmp_path / "other")
        newest["sha256"] = bucket.put_file(tmp_path / "other", f"{FOLDER}/{newest['name']}")
        listed = manifest(bucket)
        bucket.put_json(f"{FOLDER}/manifest.json", {**listed, "states": [listed["states"][0], newest]})
    assert second.load(CPU)[0] == 10
    assert newest["name"].partition("/")[2] in capsys.readouterr().err
    save(second, 15)
    assert [state["seen"] for state in manifest(bucket)["states"]] == [10, 15], "the damaged one is forgotten"
    assert key.removeprefix("prefix/") not in set(bucket.list())


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
    assert [state["seen"] for state in manifest(bucket)["states"]] == [10]


def test_finished_run_leaves_nothing(bucket: Bucket, machine: Machine, tmp_path: Path) -> None:
    states = machine("a")
    states.load(CPU)
    save(states, 10, 20)
    bucket.put_json(f"{FOLDER}/nobody-1-0/000000000005-0123456789abcdef.pt", "left by a worker that lost the run")
    states.remove()
    assert list(bucket.list()) == []
    assert not (tmp_path / "a/key").exists()


def test_worker_whose_run_was_finished_elsewhere_stops(machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    second.load(CPU)
    save(second, 10)
    second.remove()
    with pytest.raises(TakenOver, match="another worker finished this run"):
        save(first, 10)


@pytest.mark.parametrize("text", ["[]", '{"owner": "a", "states": [{"name": "../../x.pt"}]}', "no json"])
def test_manifest_that_is_none_is_an_error(text: str, s3: S3, bucket: Bucket, machine: Machine) -> None:
    s3.client().put_object(Bucket=bucket.bucket, Key=f"prefix/{FOLDER}/manifest.json", Body=text.encode())
    with pytest.raises(StorageError, match=r"states/train/key/manifest\.json.*delete it"):
        machine("a").load(CPU)


def test_name_in_a_manifest_cannot_leave_the_folder(bucket: Bucket, machine: Machine) -> None:
    row = {"name": "owner/../../../x.pt", "seen": 1, "sha256": "0", "size": 1}
    bucket.put_json(f"{FOLDER}/manifest.json", {"owner": "a", "states": [row]})
    with pytest.raises(StorageError, match="does not list training states"):
        machine("a").load(CPU)


@pytest.mark.slow
def test_training_goes_on_while_s3_is_away_and_its_newest_state_is_sent_later(
    s3: S3, bucket: Bucket, machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes about half a minute."""
    monkeypatch.setattr("cspipe.runtime.storage.PATIENT", QUICK)
    states = machine("a")
    states.load(CPU)
    save(states, 10)
    s3.stop()
    try:
        for seen in (20, 30, 40):
            before = time.monotonic()
            states.save(seen, {"weights": torch.full((1000,), float(seen))})
            assert time.monotonic() - before < 1, "a step waited for S3"
        states.flush(5)
    finally:
        s3.start()
    states.flush(60)
    assert [state["seen"] for state in manifest(bucket)["states"]][-1] == 40
    assert machine("b").load(CPU)[0] == 40
    told = capsys.readouterr().err
    assert told.count("training goes on, its state is kept here and sent later") == 1, "a line a minute"
    assert "not in S3 after 5 s" in told
    assert s3.url in told
    assert ACCESS_KEY not in told
    assert SECRET_KEY not in told


def test_outage_is_told_within_seconds_and_ridden_out(
    s3: S3, bucket: Bucket, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    states = machine("a")
    states.load(CPU)
    save(states, 10)
    s3.stop()
    try:
        states.save(20, {})
        told, patience = "", time.monotonic() + 15
        while f"to use {bucket.url}/" not in told or "training goes on" not in told:
            assert time.monotonic() < patience, "no word of the outage"
            time.sleep(0.1)
            told += capsys.readouterr().err
    finally:
        s3.start()
    assert f"S3 at {s3.url} " in told
    assert ACCESS_KEY not in told
    states.flush(60)
    assert [state["seen"] for state in manifest(bucket)["states"]] == [10, 20]


def test_unreachable_s3_is_an_error_at_the_start(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cspipe.runtime.storage.PATIENT", QUICK)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="is unreachable"):
        machine("a").load(CPU)


def test_saving_does_not_wait_for_a_slow_upload_whose_file_is_kept(machine: Machine) -> None:
    states = machine("a")
    states.load(CPU)
    put, go = states.mirror.bucket.put_file, threading.Event()

    def slow(path: Path, key: str) -> str:
        go.wait(30)
        return put(path, key)

    object.__setattr__(states.mirror.bucket, "put_file", slow)
    paths = [states.save(10, {})]
    while not states.mirror.needs(paths[0]) or states.mirror._sending is None:
        time.sleep(0.01)
    paths += [states.save(seen, {}) for seen in (20, 30, 40, 50)]
    assert [path.exists() for path in paths] == [True, False, False, True, True]
    go.set()
    states.flush(30)
    assert [state.seen for state in states.mirror.states] == [10, 50]
