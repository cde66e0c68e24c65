"""The flow `study`: run `cspipe study NAME` on a worker, and show its page and figure as artifacts.

`prefect deployment run study -p name=convergence -p jobs=2 --watch`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage_errors import StorageError
from cspipe.study.results import RESULTS
from cspipe.study.run import FOLDER
from flows.artifact_keys import key
from flows.artifacts import never_fails, show_image
from flows.command import Ended, run_command
from flows.dvc_stage import end_earlier_attempt
from flows.experiment import push_experiments
from flows.failures import StageFailed, reason
from flows.revision import check_code, run_commit
from flows.workspace import Workspace, home, open_workspace, shared_bucket

PROGRAM = "import os; os.setsid(); from cspipe.cli.main import main; main()"
"""Python code of `cspipe` of the working folder, in a session of its own: at a cancellation it gets one SIGTERM,
from run_command; a second one, from Prefect to the process group, would interrupt it while it stops its workers."""
HOURS = 24.0 * 14
"""Time limit of a study, in hours; after two weeks it counts as stuck."""
FIGURE = re.compile(r"!\[[^\]]*\]\([^)]*\)\n*")
"""Markdown of the figure in a study's page, removed for Prefect: it links to a file that Prefect does not have."""


def run_name() -> str:
    """Return the run's name: that of the study, and the start of the flow run's id."""
    return key("study", str(flow_run.parameters.get("name")), str(flow_run.id)[:6])


@flow(name="study", flow_run_name=run_name, persist_result=False)
def study(name: str, jobs: int = 1, revision: str | None = None) -> State[Any]:
    """Run a study of studies/ at a revision, `jobs` cells at a time, or continue it.

    Finished cells stay in the worker's clone, as experiments and below .cspipe/study, even if the run fails; another
    run there, with the same code, reuses them. At its end a run pushes the cells to the clone's origin and their
    results to the bucket, where there are both. Raises UserError before anything runs if revision, bucket or this
    clone's code cannot be used, StageFailed if the command refuses, or at the end if a cell failed.
    """
    log, clone, run = get_run_logger().info, home(), run_name()
    bucket = shared_bucket(log)
    if jobs < 1:
        raise UserError(f"jobs: {jobs}; give the number of cells at a time, 1 or more")
    commit = run_commit(clone, revision, pushed=False)
    check_code(clone, commit)
    end_earlier_attempt(run, "study", log)
    with open_workspace(clone, commit, run, bucket) as workspace:
        keep_cells(clone, workspace.root)
        ended = run_study(workspace, run, name, jobs, log)
        cells = read_cells(workspace.root, name, ended)
        keep_page(clone, workspace, run, name, log)
        show_page(workspace.root / RESULTS, name, run)
        done = [cell["experiment"] for cell in cells if cell["failed"] is None]
        log(f"{len(done)} cells are experiments of this clone: `cspipe experiments` lists them")
        push_experiments(workspace, done, log)
    failed = [f"{cell['experiment']} ({cell['failed']})" for cell in cells if cell["failed"] is not None]
    if failed:
        raise StageFailed(f"{name}: {len(failed)} of {len(cells)} cells failed: {failed[0]}; the page names all")
    return Completed(message=f"{name}: {len(cells)} cells done; the page is the artifact {key('study', name)}")


def keep_cells(clone: Path, root: Path) -> None:
    """Link a workspace's folder of finished cells to the clone's, which outlives it; remove its committed results."""
    kept = clone / FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    (root / FOLDER).symlink_to(kept.resolve())
    shutil.rmtree(root / RESULTS, ignore_errors=True)


def run_study(workspace: Workspace, run: str, name: str, jobs: int, log: Callable[[str], None]) -> Ended:
    """Run `cspipe study`, without the bucket: a cell resumed from a state there would be timed too short."""
    return run_command(
        ["python", "-c", PROGRAM, "study", "--jobs", str(jobs), "--", name],
        workspace.root,
        tell=log,
        hours=HOURS,
        environment={"CSPIPE_FLOW_RUN": run, "CSPIPE_STAGE": "study", "CSPIPE_S3": ""},
    )


def read_cells(root: Path, name: str, ended: Ended) -> list[dict[str, Any]]:
    """Return the cells that the command recorded. Raises StageFailed with its message if there is no record."""
    file = root / RESULTS / f"{name}.json"
    if ended.timed_out:
        raise StageFailed(f"{name}: not done after {HOURS:g} hours")
    if not file.is_file() or not file.with_suffix(".md").is_file():
        refusals = [line.removeprefix("cspipe: ") for line in ended.lines if line.startswith("cspipe: ")]
        raise StageFailed(f"{name}: {refusals[-1] if refusals else reason(ended.lines)}")
    cells: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return cells


def keep_page(clone: Path, workspace: Workspace, run: str, name: str, log: Callable[[str], None]) -> None:
    """Copy the study's files in docs/results to the clone and the bucket, as the workspace is removed."""
    kept = clone / FOLDER / name
    for file in sorted((workspace.root / RESULTS).glob(f"{name}.*")):
        shutil.copyfile(file, kept / file.name)
        if workspace.bucket is not None:
            with suppress(StorageError):  # the clone has copies
                workspace.bucket.put_file(file, f"runs/{run}/{file.name}")
    there = "" if workspace.bucket is None else f" and {workspace.bucket.url}/runs/{run}"
    log(f"page, figure and numbers, made for {RESULTS}: {kept}{there}")


@never_fails
def show_page(folder: Path, name: str, run: str) -> None:
    """Show the page of a study and its figure as artifacts."""
    text = FIGURE.sub("", (folder / f"{name}.md").read_text(encoding="utf-8"))
    create_markdown_artifact(text, key=key("study", name), description=f"results of {run}")
    figure = folder / f"{name}.png"
    if figure.exists():
        show_image(figure, key("study", name, "figure"), f"figure of {run}")
