"""The run cache on its way: entries that are there already are not sent again, and no name leads out of it."""

import json
from pathlib import Path

from cspipe.runtime.worktree import as_dvc_writes
from tests.stages.conftest import new_repository, run_in

STAGES = "stages: {one: {cmd: cp a one, deps: [a], outs: [one]}, two: {cmd: cp a two, deps: [a], outs: [two]}}"


def steps(folder: Path, *each: list[str]) -> str:
    return run_in(folder, "python", "-m", "flows.dvc_steps", json.dumps(each)).stdout


def entries(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in (folder / "runs").rglob("*") if file.is_file()}


def test_only_new_entries_are_sent_and_fetched(tmp_path: Path) -> None:
    files = {"dvc.yaml": STAGES, "a": "1", ".gitignore": ""}
    first, second = (new_repository(tmp_path / name, files) for name in ("first", "second"))
    remote = tmp_path / "remote"
    for clone in (first, second):
        run_in(clone, "dvc", "remote", "add", "-q", "-d", "there", str(remote))
    steps(first, ["repro", "one"], ["push", "--run-cache", "one"])
    [sent] = entries(remote)
    written = (remote / sent).stat().st_mtime_ns
    steps(first, ["repro", "two"], ["push", "--run-cache", "two"])
    assert len(entries(remote)) == 2
    assert (remote / sent).stat().st_mtime_ns == written
    stray = remote / "runs/notes.txt"
    stray.write_text("no entry")
    assert "is cached - skipping run" in steps(second, ["repro", "--pull", "one"])
    assert entries(second / ".dvc/cache") == entries(remote) - {stray.relative_to(remote)}


def test_a_path_is_one_that_dvc_can_write(tmp_path: Path) -> None:
    assert (Path.cwd() / as_dvc_writes(tmp_path)).resolve() == tmp_path.resolve()
