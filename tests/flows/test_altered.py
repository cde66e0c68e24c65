"""One byte of an object in S3 is another: it is refused by name, and nothing of it lands in a workspace."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged
from flows.dvc_stage import StageRunner
from flows.failures import StageFailed
from flows.graph import Node, read_graph
from flows.handover import Place, take_over
from flows.known_results import settle
from flows.workspace import open_workspace
from tests.s3_server import S3
from tests.stages.conftest import new_repository, run_in

PIPELINE = """
stages:
  one:
    cmd: mkdir -p out && cp a.txt out/x && echo alone > alone.txt && cp a.txt m.json
    deps: [a.txt]
    outs: [out, alone.txt]
    metrics: [{m.json: {cache: false}}]
    meta: {pool: cpu}
  two:
    cmd: cat out/x alone.txt > end.txt
    deps: [out, alone.txt]
    outs: [end.txt]
    meta: {pool: cpu}
"""
Runner = Callable[[str, str], tuple[list[str], dict[str, bytes]]]


@pytest.fixture
def run_stage(tmp_path: Path, bucket: Bucket) -> Runner:
    """run_stage("machine", "one"): run a stage in a machine's own clone; its lines, and what is in its workspace.

    A stage ends what is left of an attempt before, wherever on this machine: the run's name is this process's own.
    """
    ignored = "/.cspipe/\n/out\n/alone.txt\n/end.txt\n"
    origin = new_repository(tmp_path / "origin", {"dvc.yaml": PIPELINE, "a.txt": "sound\n", ".gitignore": ignored})

    def run(machine: str, stage: str) -> tuple[list[str], dict[str, bytes]]:
        clone, lines, lock = tmp_path / machine, list[str](), tmp_path / "dvc.lock"
        mine = f"run-{os.getpid()}"
        run_in(tmp_path, "git", "clone", "-q", str(origin), str(clone))
        with open_workspace(clone, git(clone, "rev-parse", "HEAD"), "run", bucket) as work:
            if stage == "two":
                (work.root / lock.name).write_text(lock.read_text())
            nodes = {node.name: node for node in read_graph(work.root)}
            try:
                if stage == "known":
                    assert settle(work, [nodes["one"]], lines.append) == {}
                else:
                    StageRunner(work, mine, lines.append, lambda step: None, warn=lines.append)(nodes[stage])
            except StageFailed as error:
                lines.append(f"failed: {error}")
            if stage == "one":
                lock.write_text((work.root / lock.name).read_text())
            places = {path.name: path for path in work.root.rglob("*") if path.is_file() and ".dvc" not in path.parts}
            return lines, {name: path.read_bytes() for name, path in places.items()}

    return run


@pytest.mark.parametrize(
    ("kind", "stage", "old", "new"),
    [
        ("dvc/files/md5/", "two", b"sound", b"Sound"),
        ("dvc/files/md5/", "two", b"alone", b"Alone"),
        ("dvc/files/md5/", "two", b'"relpath": "x"', b'"relpath": "X"'),
        ("dvc/files/md5/", "two", b'[{"md5"', b'[["md5"'),
        ("dvc/runs/", "one", b"path: alone.txt", b"path: Alone.txt"),
        ("dvc/runs/", "one", b"cp a.txt m.json", b"cp a.txt m.jsoN"),
        ("dvc/runs/", "known", b"path: alone.txt", b"path: Alone.txt"),
        ("dvc/files/md5/", "known", b'"relpath": "x"', b'"relpath": "X"'),
    ],
)
@pytest.mark.slow
def test_an_altered_object_is_refused_by_name(
    run_stage: Runner, bucket: Bucket, s3: S3, kind: str, stage: str, old: bytes, new: bytes
) -> None:
    run_stage("a", "one")
    altered = []
    for key in bucket.list(kind):
        place = {"Bucket": bucket.bucket, "Key": f"{bucket.prefix}/{key}"}
        body = s3.client().get_object(**place)["Body"].read()
        if old in body:
            s3.client().put_object(**place, Body=body.replace(old, new))
            altered.append(key.removeprefix("dvc/"))
    lines, files = run_stage("b", stage)
    [key] = altered
    assert [line for line in lines if key in line and "delete it" in line], lines
    assert not [name for name, content in files.items() if new in content or name in ("X", "Alone.txt")]
    failed = [line for line in lines if line.startswith("failed: ")]
    assert len(failed) == (stage == "two"), "what is wanted is not there; what the run cache has can be run again"
    assert all(key in line for line in failed)


def test_an_altered_hand_over_is_refused_by_name(bucket: Bucket, s3: S3, tmp_path: Path) -> None:
    place = Place(bucket, "run", "one")
    bucket.put_json(place.result, {"lock": {}, "files": {"m.json": "1"}, "how": "ran", "seconds": 1})
    at = {"Bucket": bucket.bucket, "Key": f"{bucket.prefix}/{place.result}"}
    found = s3.client().get_object(**at)
    s3.client().put_object(**at, Body=found["Body"].read().replace(b'"1"', b'"2"'), Metadata=found["Metadata"])
    (tmp_path / "m.json").write_text("0")
    with pytest.raises(Damaged, match=place.result):
        take_over(place, tmp_path, Node("one", "cpu", 1.0, (), (), ("m.json",)))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["0"]
