"""Who has a training: a second run waits while its owner lives, and takes over at once or later when it does not."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.lease import LOOKS, SECONDS_BETWEEN_LOOKS, TakenOver, forget
from cspipe.runtime.mirror import Mirror
from cspipe.runtime.preemption import Preempted, sigterm_deferred, sigterm_raises
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import StorageError
from tests.fixtures import FOLDER, Machine
from tests.runtime.test_mirror import CPU, manifest, save
from tests.s3_server import S3


def started(states: Checkpoints, *seen: int) -> Checkpoints:
    """A run that was made ours, with some states in S3."""
    states.load(CPU)
    save(states, *seen)
    return states


def no_wait(seconds: float) -> None:
    pytest.fail("waited for an owner that is gone")


def test_second_run_waits_while_the_first_lives_and_leaves_it_the_training(
    bucket: Bucket, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first stores no state for several times what a lost one gets, then ends, and its flow run pushes."""
    first, looks = started(machine("a", "a")), []

    def meanwhile(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) % LOOKS == 0:
            first.mirror.lease.beat()
        if len(looks) == 3 * LOOKS + 1:
            save(first, 10)
            first.remove()
            forget(bucket, "states/train", "a")

    with pytest.raises(TakenOver, match="another worker finished this run"):
        machine("b", "b", meanwhile).load(CPU)
    assert looks == [SECONDS_BETWEEN_LOOKS] * (3 * LOOKS + 1)
    told = capsys.readouterr().err
    assert told.count(f"another worker has this run ({first.mirror.lease.manifest.owner}); waiting until") == 1
    assert list(bucket.list()) == []


def test_owner_that_hangs_is_replaced_and_finds_out_without_a_state(bucket: Bucket, machine: Machine) -> None:
    looks: list[float] = []
    first, second = started(machine("a"), 10), machine("b", sleep=looks.append)
    assert second.load(CPU)[0] == 10
    assert len(looks) == LOOKS
    first.mirror.lease.beat()
    with pytest.raises(TakenOver, match=second.mirror.lease.manifest.owner):
        first.mirror.ask()
    save(second, 20)
    assert manifest(bucket)["owner"] == second.mirror.lease.manifest.owner


def test_sign_of_life_comes_by_itself(bucket: Bucket, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cspipe.runtime.lease.SECONDS_BETWEEN_BEATS", 0.0)
    lease, beaten = machine("a").mirror.lease, threading.Event()
    beat = lease.beat

    def counted() -> None:
        beat()
        beaten.set()

    lease.beat = counted
    lease.claim()
    assert beaten.wait(20)
    lease.release()
    assert manifest(bucket) is None


def test_next_attempt_of_the_same_flow_run_does_not_wait(machine: Machine) -> None:
    """Its loss was noticed already."""
    started(machine("a", "run"), 10)
    assert machine("b", "run", no_wait).load(CPU)[0] == 10


def test_process_of_this_machine_that_ended_is_not_waited_for(machine: Machine) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    first = machine("a")
    first.mirror.lease.manifest.pid = gone.pid
    started(first, 10)
    assert machine("b", sleep=no_wait).load(CPU)[0] == 10


def test_a_process_of_another_machine_with_the_same_name_is_waited_for(machine: Machine) -> None:
    """Containers share a host name and not the ids of processes."""
    looks: list[float] = []
    first = machine("a")
    lease = first.mirror.lease
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lease.manifest.pid, lease.manifest.machine = gone.pid, f"{lease.manifest.machine.split()[0]} another"
    started(first, 10)
    assert machine("b", sleep=looks.append).load(CPU)[0] == 10
    assert len(looks) == LOOKS


def test_sigterm_ends_the_wait(machine: Machine) -> None:
    first = started(machine("a"))
    with pytest.raises(Preempted), sigterm_raises(), sigterm_deferred():
        machine("b", sleep=lambda seconds: os.kill(os.getpid(), signal.SIGTERM)).load(CPU)
    with sigterm_raises():
        pass  # the signal is forgotten
    first.mirror.lease.beat()
    first.mirror.ask()


def test_states_of_a_flow_run_stay_until_it_forgets_them(bucket: Bucket, machine: Machine) -> None:
    """A machine that is lost between a training's end and the push of its result costs no training."""
    other = Checkpoints(machine("b").folder, "other", Mirror(bucket, "states/train/other", "b"))
    for states in (machine("a", "a"), other):
        started(states, 10).remove()
    assert machine("later", "a").load(CPU)[0] == 10
    forget(bucket, "states/train", "a")
    left = list(bucket.list())
    assert left
    assert all(key.startswith("states/train/other/") for key in left)


def test_one_of_two_that_start_at_the_same_moment_wins_and_the_other_waits(machine: Machine) -> None:
    """A new run at first, then the same one taken over again and again."""

    class Waiting(Exception):
        pass

    for attempt in range(3):
        runs, start = [machine(f"{attempt}{name}") for name in "ab"], threading.Barrier(2)

        def load(states: Checkpoints, start: threading.Barrier = start) -> bool:
            lease, waits = states.mirror.lease, []
            write, wait = lease.write, lease.wait

            def write_together(rows: list[str]) -> None:
                start.wait(10)  # both have read the manifest, neither has written it
                write(rows)

            def wait_once() -> list[str]:
                if waits:
                    raise Waiting
                waits.append(wait())
                return waits[0]

            lease.write, lease.wait = write_together, wait_once
            try:
                states.load(CPU)
            except Waiting:
                return False
            return True

        with ThreadPoolExecutor(2) as workers:
            assert sum(workers.map(load, runs)) == 1


def test_run_whose_owner_writes_in_between_is_taken_over_all_the_same(machine: Machine) -> None:
    first, second = started(machine("a"), 10), machine("b")
    lease = second.mirror.lease
    write = lease.write

    def write_late(states: list[str]) -> None:
        lease.write = write
        save(first, 20)
        write(states)

    lease.write = write_late
    assert second.load(CPU)[0] == 20
    with pytest.raises(TakenOver):
        save(first, 30)


def test_earlier_owner_stops_at_its_next_state_and_overwrites_nothing(bucket: Bucket, machine: Machine) -> None:
    first = started(machine("a"), 10)
    second = started(machine("b"), 20)
    before = manifest(bucket)
    with pytest.raises(TakenOver, match=rf"took over this run \({second.mirror.lease.manifest.owner}\)"):
        save(first, 20)
    with pytest.raises(TakenOver):
        save(first, 30)
    with pytest.raises(TakenOver):
        first.remove()
    assert manifest(bucket) == before
    assert machine("c").load(CPU)[0] == 20


def test_worker_whose_run_was_finished_elsewhere_stops(machine: Machine) -> None:
    first = started(machine("a"))
    started(machine("b"), 10).remove()
    with pytest.raises(TakenOver, match="another worker finished this run"):
        save(first, 10)


def test_answer_that_was_lost_does_not_lose_the_run(machine: Machine) -> None:
    """S3 took the manifest, its answer never came, and the second try finds it changed, by ourselves."""
    states = started(machine("a"))
    put = states.mirror.lease.bucket.put_json

    def put_twice(key: str, value: Any, **condition: Any) -> str:
        put(key, value, **condition)
        return put(key, value, **condition)

    object.__setattr__(states.mirror.lease.bucket, "put_json", put_twice)
    save(states, 10, 20)
    assert machine("b").load(CPU)[0] == 20


def test_answer_that_was_lost_in_an_outage_does_not_lose_the_run(machine: Machine) -> None:
    """S3 took a sign of life, and was gone for every try to hear so."""
    states = started(machine("a"), 10)
    bucket = states.mirror.lease.bucket
    put = bucket.put_json

    def unheard(key: str, value: Any, **condition: Any) -> str:
        put(key, value, **condition)
        object.__setattr__(bucket, "put_json", put)
        raise StorageError("no answer")

    object.__setattr__(bucket, "put_json", unheard)
    with pytest.raises(StorageError, match="no answer"):
        states.mirror.lease.beat()
    save(states, 20)
    assert machine("b").load(CPU)[0] == 20


OUTSIDE = '{"owner": "a", "states": ["owner/../../../000000000010-0123456789abcdef.pt"]}'


@pytest.mark.parametrize("text", ["[]", OUTSIDE, "no json"])
def test_manifest_that_is_none_or_leads_out_of_the_folder_is_an_error(
    text: str, s3: S3, bucket: Bucket, machine: Machine
) -> None:
    s3.client().put_object(Bucket=bucket.bucket, Key=f"prefix/{FOLDER}/manifest.json", Body=text.encode())
    with pytest.raises(StorageError, match=r"states/train/key/manifest\.json.*delete it"):
        machine("a").load(CPU)
