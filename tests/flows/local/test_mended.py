"""A stack whose parts are killed, and one that is stopped in the middle of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.local import processes
from flows.local.record import STACK
from tests.flows.local.stacks import PREFECT, kill, read, run, typed
from tests.flows.server import free_port, wait_for


@pytest.mark.slow
def test_what_dies_is_started_again_and_what_down_stopped_goes_on(project: Path) -> None:
    """Two minutes. Nobody types anything for the first; `status` tells each time what is the case."""
    assert run(project, typed(f"up(detach=True, port={free_port()})")).returncode == 0
    before = read(project)
    kill(before, "s3", "gpu-0", "supervisor", "server")
    ill = run(project, typed("status()"))
    lines = [line for line in ill.stdout.splitlines() if "API" in line]
    assert ill.returncode == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"FAIL API          {before.api} gives no answer")
    wait_for(lambda: run(project, typed("status()")).returncode == 0, 120)
    after = read(project)
    assert (after.api, after.s3, after.endpoint) == (before.api, before.s3, before.endpoint)
    assert [part.name for part in after.parts] == [part.name for part in before.parts]
    log = (project / STACK / "logs" / "keeper.log").read_text()
    for name in ("s3", "gpu-0", "supervisor", "server"):
        assert f"{name} has ended; it is started again in 1 s" in log
        assert f"{name} started again" in log

    assert run(project, [PREFECT, "deployment", "run", "train-demo", "-p", "seconds=600"]).returncode == 0
    wait_for((project / "env.json").exists, 90)
    assert " Running" in run(project, typed("status()")).stdout.splitlines()[-1]
    assert run(project, typed("down()")).returncode == 0
    assert processes.marked(before.mark) == []
    (project / "env.json").unlink()
    assert run(project, typed("up(detach=True)")).returncode == 0
    wait_for((project / "env.json").exists, 60)  # at once, not when the supervisor finds it lost
    assert len((project / "ran.txt").read_text().splitlines()) == 2
