"""Results that exist are taken over by the driver, and pushed if only its machine has them: no worker starts."""

import os
from pathlib import Path

import pytest

from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from flows.dvc_stage import Outcome, StageRunner
from flows.graph import read_graph
from flows.known_results import settle
from flows.workspace import Workspace, open_workspace
from tests.s3_server import S3
from tests.stages.conftest import commit, new_repository, run_in

PIPELINE = """
stages:
  one:
    cmd: mkdir -p out && cp a.txt out/x && mkdir -p curves && cp a.txt curves/m.tsv
    deps: [a.txt]
    outs: [out]
    metrics: [{curves: {cache: false}}]
    meta: {pool: gpu}
  two:
    cmd: cp out/x two.txt
    deps: [out]
    outs: [two.txt]
    meta: {pool: gpu}
"""


class Place:
    """Clones of one origin that share a bucket."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder, self.bucket, self.lines = folder, bucket, list[str]()
        files = {"dvc.yaml": PIPELINE, "a.txt": "1", ".gitignore": "/.cspipe/\n/out\n/two.txt\n"}
        new_repository(folder / "origin", files)

    def clone(self, name: str) -> Path:
        run_in(self.folder, "git", "clone", "-q", str(self.folder / "origin"), name)
        return self.folder / name

    def settle(self, clone: Path, *, then_run: bool = False) -> tuple[dict[str, Outcome], Workspace]:
        """What the driver of a clone settles; `then_run`: and runs the others. The workspace is gone afterwards."""
        with open_workspace(clone, git(clone, "rev-parse", "HEAD"), "run", self.bucket) as workspace:
            nodes = read_graph(workspace.root)
            known = settle(workspace, nodes, self.lines.append)
            for node in nodes if then_run else []:
                if node.name not in known:
                    run = f"known-{os.getpid()}"  # as in test_altered.py
                    StageRunner(workspace, run, print, lambda step: None)(node)
            self.check(workspace, set(known))
        return known, workspace

    def check(self, workspace: Workspace, known: set[str]) -> None:
        """DVC finds every known result in the workspace, whole."""
        if known == {"one", "two"}:
            done = run_in(workspace.root, "dvc", "repro", "--dry").stdout
            assert "Data and pipelines are up to date." in done
            assert (workspace.root / "curves/m.tsv").read_text() == (workspace.root / "two.txt").read_text() == "1"
            saved = run_in(
                workspace.root, "dvc", "exp", "save", "--include-untracked=curves", "-n", "done", check=False
            )
            assert saved.returncode == 0, saved.stderr

    def stored(self) -> int:
        return len(list(self.bucket.list("dvc/files/md5/")))


@pytest.fixture
def place(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("CSPIPE_S3", bucket.url)
    return Place(tmp_path, bucket)


def test_what_ran_elsewhere_is_taken_from_the_bucket_and_here_from_the_cache(place: Place) -> None:
    first = place.clone("first")
    assert place.settle(first, then_run=True)[0] == {}
    for clone in (place.clone("second"), first):
        known, _ = place.settle(clone)
        assert {name: outcome.how for name, outcome in known.items()} == dict.fromkeys(
            ("one", "two"), "restored from the run cache, not run"
        )
    (first / "a.txt").write_text("2")
    run_in(first, "git", "config", "user.name", "test")
    run_in(first, "git", "config", "user.email", "test@example.org")
    commit(first, "another input")
    assert place.settle(first)[0] == {}, "a changed input leaves all after it to workers"


def test_what_only_this_machine_has_is_pushed_and_left_to_the_workers_while_s3_is_away(
    place: Place, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.clone("first")
    run_in(first, "dvc", "repro")
    run_in(first, "git", "checkout", "-q", ".")
    run_in(first, "git", "clean", "-qfd")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert place.settle(first)[0] == {}
    assert "workers do it" in place.lines[-1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    assert place.stored() == 0
    assert set(place.settle(first)[0]) == {"one", "two"}
    assert place.stored() >= 3
    assert set(place.settle(place.clone("second"))[0]) == {"one", "two"}
