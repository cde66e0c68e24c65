"""When the keeper starts parts again, on a clock that the test moves; test_stack.py has it keep a stack."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.local import processes
from flows.local.keeper import STARTS, STEADY, Keeper
from flows.local.processes import Part
from flows.local.record import Stack

ENDED = Part("supervisor", 1, 0.0)


@pytest.fixture
def running() -> Iterator[Part]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield processes.as_part("supervisor", process.pid)
        process.kill()


def keeper(folder: Path, part: Part = ENDED) -> tuple[Keeper, list[str]]:
    """A keeper of one part, and the list of what it starts, which ends at once."""
    starts = list[str]()
    stack = Stack(folder, mark="x", api="http://127.0.0.1:1/api", parts=[part])
    return Keeper(stack, lambda stack, name: starts.append(name)), starts


def test_pauses_grow_until_it_gives_up_and_somebody_types_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, starts = keeper(tmp_path)
    times = []
    for now in range(200):
        before = len(starts)
        kept.look(float(now))
        times += [now] * (len(starts) - before)
    assert [after - before for before, after in zip(times, times[1:], strict=False)] == [3, 5, 9, 17]  # 1 s to notice
    assert len(starts) == STARTS
    assert "only `cspipe up` starts it again now" in capsys.readouterr().out
    kept.forget()
    kept.look(200.0)
    assert len(starts) == STARTS + 1


def test_a_part_that_ran_well_starts_anew(tmp_path: Path, running: Part) -> None:
    kept, starts = keeper(tmp_path)
    for now in (0.0, 1.0, 2.0, 4.0):
        kept.look(now)
    assert len(starts) == 2
    kept.stack.parts = [running]
    kept.look(4.0 + STEADY + 1)
    kept.stack.parts = [ENDED]
    for now in (400.0, 401.0):
        kept.look(now)
    assert len(starts) == 3, "after the first pause again"


def test_a_worker_waits_for_the_server(tmp_path: Path) -> None:
    kept, starts = keeper(tmp_path, Part("gpu-0", 1, 0.0))
    for now in (0.0, 1.0, 2.0):
        kept.look(now)
    assert starts == []
