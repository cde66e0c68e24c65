"""Results that exist are taken over by the driver, and pushed if only its machine has them: no worker starts."""

from pathlib import Path

import pytest

from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from flows.graph import read_graph
from flows.known_results import restore_known
from flows.workspace import Workspace, open_workspace
from tests.flows.machines import cloned
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
        return cloned(self.folder / "origin", self.folder / name)

    def settle(self, clone: Path) -> dict[str, str]:
        """How the driver of a clone settles stages. The workspace is gone afterwards."""
        with open_workspace(clone, git(clone, "rev-parse", "HEAD"), "run", self.bucket) as workspace:
            known = restore_known(workspace, read_graph(workspace.root), self.lines.append)
            self.check(workspace, set(known))
        return {name: outcome.how for name, outcome in known.items()}

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


def test_what_only_this_machine_has_is_pushed_and_left_to_the_workers_while_s3_is_away(
    place: Place, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what follows a changed input, and what was altered in the bucket, which is named."""
    first = place.clone("first")
    run_in(first, "dvc", "repro")
    run_in(first, "git", "checkout", "-q", ".")
    run_in(first, "git", "clean", "-qfd")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert place.settle(first) == {}
    assert "workers do it" in place.lines[-1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    assert place.stored() == 0
    restored = dict.fromkeys(("one", "two"), "restored from the run cache, not run")
    assert place.settle(first) == restored
    assert place.stored() >= 3
    assert place.settle(place.clone("second")) == restored
    (first / "a.txt").write_text("2")
    commit(first, "another input")
    assert place.settle(first) == {}, "a changed input leaves all after it to workers"
    [entry] = [key for key in place.bucket.list("dvc/runs/") if alter(place.bucket, s3, key)]
    assert place.settle(place.clone("third")) == {}
    assert [line for line in place.lines if entry.removeprefix("dvc/") in line and "delete it" in line]


def alter(bucket: Bucket, s3: S3, key: str) -> bool:
    """Make the entry of stage one tell of another output."""
    at = {"Bucket": bucket.bucket, "Key": f"{bucket.prefix}/{key}"}
    body = s3.client().get_object(**at)["Body"].read()
    if of_one := b"path: curves" in body:
        s3.client().put_object(**at, Body=body.replace(b"path: curves", b"path: Curves"))
    return of_one
