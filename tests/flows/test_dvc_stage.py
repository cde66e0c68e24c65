"""One stage in one workspace, with S3: run here, restored elsewhere, tried again in an outage."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from flows.dvc_stage import StageRunner, end_earlier_attempt
from flows.failures import StageFailed
from flows.graph import read_graph
from flows.workspace import open_workspace
from tests.s3_server import S3
from tests.stages.conftest import new_repository, run_in

PIPELINE = """
stages:
  one:
    cmd: echo ran one && mkdir -p out && cp a.txt out/x && cp a.txt m.json
    deps: [a.txt]
    outs: [out]
    metrics: [{m.json: {cache: false}}]
    meta: {pool: cpu}
  bad:
    cmd: python bad.py
    outs: [nothing.txt]
    meta: {pool: cpu}
"""
BAD = """
from cspipe.runtime.errors import UserError
from cspipe.runtime.stage import stage
with stage("bad"):
    raise UserError("a value is wrong")
"""
Runner = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def run_stage(tmp_path: Path, bucket: Bucket) -> Runner:
    """run_stage("machine", "one"): run a stage in a machine's clone; (how it was done, lines), which `on_line` gets."""
    files = {"dvc.yaml": PIPELINE, "a.txt": "1", "bad.py": BAD, ".gitignore": "/.cspipe/\n/out\n/nothing.txt\n"}
    origin = new_repository(tmp_path / "origin", files)

    def run(machine: str, stage: str, on_line: Callable[[str], None] = print) -> tuple[str, list[str]]:
        clone, lines = tmp_path / machine, list[str]()
        if not clone.exists():
            run_in(tmp_path, "git", "clone", "-q", str(origin), str(clone))
        with open_workspace(clone, git(clone, "rev-parse", "HEAD"), f"run-{stage}", bucket) as workspace:
            node = next(node for node in read_graph(workspace.root) if node.name == stage)

            def tell(line: str) -> None:
                lines.append(line)
                on_line(line)

            outcome = StageRunner(workspace, f"run-{os.getpid()}", tell, lambda step: None, warn=tell)(node)
            if stage == "one":
                assert (workspace.root / "out/x").read_text() == (workspace.root / "m.json").read_text() == "1"
        return outcome.how, lines

    return run


def test_what_ran_on_one_machine_is_restored_on_another(run_stage: Runner) -> None:
    """The metric that git keeps travels too: DVC's own push of the run cache leaves it out."""
    done, lines = run_stage("first", "one")
    assert done == "ran"
    assert "ran one" in lines
    assert not any("dvc config core.autostage" in line for line in lines)
    done, lines = run_stage("second", "one")
    assert done == "restored from the run cache, not run"
    assert "ran one" not in lines


@pytest.mark.slow
def test_what_a_stage_made_is_pushed_after_an_outage_without_running_it_again(run_stage: Runner, s3: S3) -> None:
    """S3 goes away while the stage runs, and comes back when the push is to be tried again."""

    def on_line(line: str) -> None:
        if line == "ran one":
            s3.stop()
        elif "trying again in" in line:
            s3.start()

    try:
        done, lines = run_stage("first", "one", on_line)
    finally:
        s3.start()
    assert done == "ran"
    assert lines.count("ran one") == 1
    assert any(line.endswith("trying again in 5 s") for line in lines)
    assert run_stage("second", "one")[0] == "restored from the run cache, not run"


def test_a_stage_that_fails_says_why_in_its_own_words(run_stage: Runner) -> None:
    with pytest.raises(StageFailed, match=r"^bad: a value is wrong$"):
        run_stage("first", "bad")


def test_a_process_of_an_earlier_attempt_is_ended_and_others_are_not() -> None:
    def sleeper(run: str, stage: str) -> psutil.Popen:
        environment = {**os.environ, "CSPIPE_FLOW_RUN": run, "CSPIPE_STAGE": stage}
        asleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        process = psutil.Popen(asleep, env=environment, stdout=subprocess.PIPE)
        process.stdout.readline()  # while it is being started, the system shows it without an environment
        return process

    mine, other_run, other_stage = sleeper("r-1", "train"), sleeper("r-2", "train"), sleeper("r-1", "sample")
    try:
        lines: list[str] = []
        end_earlier_attempt("r-1", "train", lines.append)
        assert mine.wait(10) != 0
        assert len(lines) == 1
        assert other_run.is_running()
        assert other_stage.is_running()
    finally:
        for process in (other_run, other_stage):
            process.kill()
            process.wait()
