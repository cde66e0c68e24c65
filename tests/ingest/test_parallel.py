"""Work on several processes: in order, complete, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cspipe.ingest.parallel import parallel_map
from cspipe.runtime.errors import UserError

ROOT = Path(__file__).parents[2]


def squarer() -> Callable[[int], tuple[int, int]]:
    """Squares, and who made them; even numbers take longer."""

    def square(number: int) -> tuple[int, int]:
        time.sleep(0.01 * (number % 2 == 0))
        return number**2, os.getpid()

    return square


def dier() -> Callable[[int], None]:
    return lambda number: os.kill(os.getpid(), signal.SIGKILL)


def sleeper() -> Callable[[int], int]:
    """Tells its process, the second time after a long while."""

    def sleep(number: int) -> int:
        time.sleep(60 * (number > 1))
        return os.getpid()

    return sleep


def test_results_come_in_order_from_other_processes() -> None:
    results = list(parallel_map(squarer, range(30), workers=2))
    assert [square for square, _ in results] == [n**2 for n in range(30)]
    assert os.getpid() not in {process for _, process in results}


class Counted(list[int]):
    """Jobs that count how many of them were taken."""

    taken = 0

    def __iter__(self) -> Iterator[int]:
        for job in range(len(self)):
            self.taken += 1
            yield job


def test_few_results_wait() -> None:
    jobs = Counted(range(60))
    ahead = [jobs.taken - done for done, _ in enumerate(parallel_map(squarer, jobs, workers=2))]
    assert len(ahead) == 60
    assert max(ahead) <= 4


def test_a_dead_worker_is_told() -> None:
    with pytest.raises(UserError, match="memory"):
        list(parallel_map(dier, range(4), workers=2))


SCRIPT = """
from cspipe.ingest.parallel import parallel_map
from tests.ingest.test_parallel import sleeper
if __name__ == "__main__":
    for process in parallel_map(sleeper, range(4), workers=2):
        print(process, flush=True)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    workers = {int(parent.stdout.readline()) for _ in range(2)}
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether a process runs (one that has ended and waits to be collected does not)."""
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
