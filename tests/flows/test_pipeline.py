"""The pipeline flow in this process: what it refuses before it starts, and a whole run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.schemas.objects import State

from flows.pipeline import pipeline
from tests.stages.conftest import run_in


def refused(flow: Flow[..., Any], *arguments: Any) -> str:
    """What the failed flow run says."""
    state: State[Any] = flow(*arguments, return_state=True)
    assert state.is_failed()
    message = state.message or ""
    assert "\n" not in message
    return message


@pytest.mark.usefixtures("prefect")
def test_what_cannot_run_is_told_in_one_line_before_anything_is_queued(flow_clone: Path) -> None:
    assert "train.images" in refused(pipeline, "demo", None, {"train.images": -1})
    assert "no revision 'v9'" in refused(pipeline, "demo", "v9")
    (flow_clone / "flows" / "graph.py").write_text("")
    assert "flows here are not those of revision" in refused(pipeline, "demo", "HEAD")
    assert not list((flow_clone / ".cspipe/runs").glob("*"))


@pytest.mark.slow
def test_a_run_in_one_process_ends_as_an_experiment_and_the_next_restores_it(flow_clone: Path, tmp_path: Path) -> None:
    first = typed(flow_clone, tmp_path)
    assert "6 ran" in first
    name = first.splitlines()[-1].split(":")[0]
    run_in(flow_clone, "dvc", "exp", "apply", name)
    done = run_in(flow_clone, "dvc", "repro")
    assert "Running stage" not in done.stdout
    assert (flow_clone / "report/report.html").exists()
    run_in(flow_clone, "git", "checkout", "-q", ".")
    assert "6 restored from the run cache, not run" in typed(flow_clone, tmp_path)


def typed(clone: Path, home: Path) -> str:
    """What `python -m flows.pipeline --preset demo` prints in a clone, with no server anywhere."""
    environment = {"PREFECT_HOME": str(home / "prefect"), "DO_NOT_TRACK": "1", "PYTHONPATH": str(clone)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CSPIPE_"))}
    command = [sys.executable, "-m", "flows.pipeline", "--preset", "demo"]
    done = subprocess.run(command, cwd=clone, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (done.stderr + done.stdout).strip()
