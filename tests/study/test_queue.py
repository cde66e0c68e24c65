"""DVC's real queue with stages that only sleep: what is left of a study that was killed is stopped and emptied."""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from cspipe.study.queue import EXPERIMENTS, Queue
from tests.stages.conftest import new_repository, run_in
from tests.study.test_run import processes_in

pytestmark = pytest.mark.slow
PIPELINE = """\
stages:
  evaluate:
    foreach: [v]
    do: {cmd: "echo sleeps && sleep ${seconds} && touch out", params: [seconds], outs: [out]}
"""


def cell(name: str, seconds: int) -> Any:
    return SimpleNamespace(name=name, tree={"seconds": seconds}, variants=["v"])


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    root = new_repository(tmp_path.resolve() / "clone", {"params.yaml": "seconds: 1\n", "dvc.yaml": PIPELINE})
    clone: Any = SimpleNamespace(root=root, folder=tmp_path, shared=root)
    return Queue(clone)


@pytest.mark.parametrize("killed", [True, False])
def test_what_runs_or_was_killed_is_gone_and_the_same_cells_can_run_again(queue: Queue, killed: bool) -> None:
    root = queue.clone.root
    for name in ("one", "two"):
        queue.put(cell(name, 300))
    queue.start(1)
    deadline = time.monotonic() + 120
    while not any(process.name() == "sleep" for process in processes_in(root)):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    for process in processes_in(root) if killed else []:
        with contextlib.suppress(psutil.Error):
            process.kill()
    queue.stop()
    assert processes_in(root) == []
    assert "No experiment tasks" in run_in(root, "dvc", "queue", "status").stdout
    assert list((root / EXPERIMENTS).glob("tmp*")) == []
    cells = [cell("one", 0), cell("two", 1)]
    for each in cells:
        queue.put(each)
    queue.start(2)
    ended = {each.cell.name: each for each in queue.watch(cells, 2, lambda name, line: None)}
    assert all(each.done and each.log and each.log.is_file() for each in ended.values())
    queue.stop()


def test_a_worker_that_is_missing_is_started_and_what_runs_is_told(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cspipe.study.queue.SECONDS_TO_APPEAR", 1.0)
    monkeypatch.setattr("cspipe.study.queue.SECONDS_BETWEEN_LINES", 3.0)
    cells = [cell(name, 20) for name in ("one", "two", "three")]
    for each in cells:
        queue.put(each)
    queue.start(1)
    told: list[tuple[str, str]] = []
    running = queue.watch(cells, 2, lambda name, line: told.append((name, line)))
    workers = [(each.done, len(queue._workers())) for each in running]
    queue.stop()
    assert ("one", "sleeps") in told
    assert workers[0] == (True, 2)
    assert all(done for done, _ in workers)
