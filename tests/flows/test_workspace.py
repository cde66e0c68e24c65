"""Each run in a worktree of its own; what cannot be run is told in one line before anything starts."""

import subprocess
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Scheduled

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import StorageError
from flows import workspace
from flows.failures import StageFailed
from flows.revision import check_code, resolve_revision, run_commit
from flows.workspace import open_workspace, shared_bucket
from tests.flows.machines import cloned
from tests.s3_server import S3
from tests.stages.conftest import commit, new_repository, run_in

PYPROJECT = '[project]\nversion = "1"\n[tool.uv]\nconstraint-dependencies = ["numpy==1"]\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A small repository with flows, pins and a DVC pipeline, cloned from its origin."""
    files = {"pyproject.toml": PYPROJECT, "flows/a.py": "1", "params.yaml": "a: 1", "dvc.yaml": "stages: {}"}
    origin = new_repository(tmp_path / "origin", {**files, "metrics/a.json": "1", ".gitignore": "/.cspipe/\n"})
    return cloned(origin, tmp_path / "clone")


def changed(folder: Path, text: str, message: str) -> str:
    """Commit another params.yaml; the commit's id."""
    (folder / "params.yaml").write_text(text)
    commit(folder, message)
    return head(folder)


def head(clone: Path) -> str:
    return git(clone, "rev-parse", "HEAD")


def test_a_person_may_go_on_editing_while_a_run_works(clone: Path) -> None:
    with open_workspace(clone, head(clone), "run-1", Bucket("shared", "")) as workspace:
        (clone / "params.yaml").write_text("a: 2")
        assert (workspace.root / "params.yaml").read_text() == "a: 1"
        run_in(workspace.root, "dvc", "status")
        cache = run_in(workspace.root, "dvc", "cache", "dir").stdout.strip()
        assert Path(cache) == clone / ".dvc/cache"  # shared, not copied
        assert "verify = true" in (workspace.root / ".dvc/config.local").read_text().lower()
        (workspace.root / ".cspipe/states/kept").write_text("state")
        (workspace.root / ".cspipe/wandb/offline-run-1").write_text("curves of a run that is to be sent later")
    assert not workspace.root.exists()
    assert (clone / ".cspipe/states/kept").read_text() == "state"
    assert (clone / ".cspipe/wandb/offline-run-1").exists()
    assert str(workspace.root) not in run_in(clone, "git", "worktree", "list").stdout


def test_a_workspace_that_a_lost_run_left_is_removed(clone: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = clone / f".cspipe/runs/run-1.{gone.pid}"
    run_in(clone, "git", "worktree", "add", "-q", "--detach", str(left))
    (left / "params.yaml").write_text("half-written")
    with open_workspace(clone, head(clone), "run-1", None) as workspace:
        assert (workspace.root / "params.yaml").read_text() == "a: 1"
        assert not left.exists()


def test_what_somebody_else_put_beside_the_workspaces_is_left_alone(clone: Path) -> None:
    stray = [clone / ".cspipe/runs" / name for name in ("notes.txt", ".hidden", "core.99999999999999999999")]
    stray[0].parent.mkdir(parents=True)
    for file in stray:
        file.write_text("mine")
    with open_workspace(clone, head(clone), "run-1", None):
        assert all(file.read_text() == "mine" for file in stray)


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "-x", "", "x\n", "x y"])
def test_a_name_that_is_none_of_a_folder_is_refused(clone: Path, name: str) -> None:
    before = sorted(clone.parent.rglob("*"))
    with pytest.raises(UserError) as caught, open_workspace(clone, head(clone), name, None):
        pass
    assert repr(name) in str(caught.value)
    assert sorted(clone.parent.rglob("*")) == before


@pytest.mark.parametrize("revision", ["--upload-pack=touch PWNED", "-h", "--git-dir", "--all", ""])
def test_a_revision_is_no_option_of_git(clone: Path, revision: str) -> None:
    with pytest.raises(UserError, match="revision"):
        resolve_revision(clone, revision, pushed=False)
    assert not list(clone.parent.rglob("PWNED"))


def test_what_cannot_be_run_is_named(clone: Path) -> None:
    (clone / "metrics/a.json").write_text("1.0000001")  # of a `dvc repro` on another processor
    assert resolve_revision(clone, None, pushed=True) == head(clone)
    with pytest.raises(UserError, match="'v9'"):
        resolve_revision(clone, "v9", pushed=True)
    (clone / "params.yaml").write_text("a: 2")
    with pytest.raises(UserError, match=r"1 uncommitted .*params\.yaml"):
        resolve_revision(clone, None, pushed=False)
    mine = changed(clone, "a: 2", "mine")
    assert resolve_revision(clone, None, pushed=False) == mine
    with pytest.raises(UserError, match=f"{mine[:12]} is not pushed.*`git push`"):
        resolve_revision(clone, None, pushed=True)


def test_a_revision_that_somebody_else_pushed_is_fetched(clone: Path) -> None:
    origin = clone.parent / "origin"
    theirs = changed(origin, "a: 3", "theirs")
    run_in(origin, "git", "tag", "v1")
    assert resolve_revision(clone, "v1", pushed=True) == theirs
    moved = changed(origin, "a: 4", "theirs again")
    run_in(origin, "git", "tag", "--force", "v1")
    assert resolve_revision(clone, "v1", pushed=True) == moved


def test_a_branch_is_that_of_origin_not_the_clones_old_one(clone: Path) -> None:
    origin = clone.parent / "origin"
    newer = changed(origin, "a: 4", "newer")
    assert resolve_revision(clone, "main", pushed=True) == newer != head(clone)
    run_in(origin, "git", "checkout", "-qb", "theirs")
    assert resolve_revision(clone, "theirs", pushed=True) == newer


def test_a_commit_that_is_here_needs_no_origin(clone: Path) -> None:
    first = head(clone)
    run_in(clone, "git", "remote", "set-url", "origin", "/nowhere")
    assert resolve_revision(clone, first, pushed=False) == first


def test_a_run_keeps_its_commit_whatever_the_person_does_meanwhile(clone: Path, client: SyncPrefectClient) -> None:
    """Its later attempts, and the later points of a sweep, are of the same code."""

    @flow
    def at() -> str:
        return run_commit(clone, None, pushed=False)

    first, run = head(clone), client.create_flow_run(at, state=Scheduled())
    assert run_flow(at, flow_run=client.read_flow_run(run.id)) == first
    (clone / "params.yaml").write_text("a: 5")
    client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    assert run_flow(at, flow_run=client.read_flow_run(run.id)) == first
    assert changed(clone, "a: 5", "later") != first
    client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    assert run_flow(at, flow_run=client.read_flow_run(run.id)) == first


def test_a_worker_with_other_code_or_pins_than_the_revision_is_told_so(clone: Path) -> None:
    (clone / "pyproject.toml").write_text(PYPROJECT.replace('version = "1"', 'version = "2"'))
    check_code(clone, head(clone))  # other settings do not matter
    (clone / "pyproject.toml").write_text(PYPROJECT.replace("==1", "==2"))
    with pytest.raises(UserError, match=rf"pyproject\.toml .* {head(clone)[:12]}"):
        check_code(clone, head(clone))
    (clone / "flows/a.py").write_text("2")
    with pytest.raises(UserError, match=rf"flows .* {head(clone)[:12]}"):
        check_code(clone, head(clone))


@pytest.fixture
def store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a worker with a bucket."""
    monkeypatch.setenv("CSPIPE_S3", bucket.url)
    return monkeypatch


def test_a_store_that_is_away_is_waited_for(s3: S3, store: pytest.MonkeyPatch) -> None:
    store.setattr(workspace, "SECONDS_BETWEEN_CHECKS", 0.1)
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        s3.start()  # the outage ends once it is logged

    s3.stop()
    assert shared_bucket(tell) is not None
    assert len(lines) == 1
    assert "for 30 min at most" in lines[0]
    store.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="waited for 0 min"):
        shared_bucket(print, 0)
    with pytest.raises(StageFailed):
        shared_bucket(print, unwanted=lambda: True)
