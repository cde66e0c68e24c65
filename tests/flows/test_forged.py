"""What somebody who can write to the remote makes up, with hashes that fit: it touches no file but the outputs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash, _get_stage_hash

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.storage import Bucket
from flows.nightly.restore import isolate, read_lock, restore
from flows.workspace import open_workspace
from tests.s3_server import S3
from tests.stages.conftest import commit, new_repository, run_in

PIPELINE = "stages: {one: {cmd: mkdir -p out && echo made > out/a, deps: [in], outs: [out]}}"
ABOVE = "../../../../../other"
"""The file beside the repository, as a hash: from DVC's cache."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a remote beside it, and another file there."""
    root = new_repository(tmp_path / "root")
    (tmp_path / "other").write_text("mine\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "in").write_text("x\n")
    settings = f"[core]\nremote = r\n['remote \"r\"']\nurl = {tmp_path / 'remote'}\nverify = true\n"
    (root / ".dvc/config").write_text(settings)
    (root / ".dvc/cache/files/md5").mkdir(parents=True)
    return root


def store(root: Path, content: bytes, suffix: str = "") -> str:
    """Put an object into the remote under its hash, and return that."""
    md5 = hashlib.md5(content).hexdigest()
    file = root.parent / "remote/files/md5" / md5[:2] / f"{md5[2:]}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return md5 + suffix


def listing(root: Path, **changed: str) -> bytes:
    """The list of a folder's files, one of them another."""
    made, evil = store(root, b"made\n"), {"md5": store(root, b"evil\n"), "relpath": "b", **changed}
    return json.dumps(sorted([{"md5": made, "relpath": "a"}, evil], key=lambda file: file["relpath"])).encode()


def forge_run(root: Path, md5: str, named: str = "out") -> None:
    """Put an entry into the remote's run cache: the stage has been run, with this output.

    Its name is the hash of an entry whose output is `named`.
    """
    with Repo(str(root)) as repo:
        stage = repo.stage.load_one(str(root / "dvc.yaml"), "one")
        stage.save_deps()
        key = _get_stage_hash(stage)
        found = {"path": "in", "hash": "md5", "md5": stage.deps[0].hash_info.value, "size": 2}
    out = {"path": "out", "hash": "md5", "md5": md5}
    entry: dict[str, Any] = {"cmd": stage.cmd, "deps": [found], "outs": [out]}
    file = root.parent / "remote/runs" / key[:2] / key / _get_cache_hash(entry)
    file.parent.mkdir(parents=True)
    out["path"] = named
    file.write_text(yaml.safe_dump(entry))


def steps(root: Path, *each: list[str]) -> str:
    """Run DVC's commands in one process; what it prints."""
    done = run_in(root, "python", "-m", "flows.dvc_steps", json.dumps(each), check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"relpath": up}, "out") for up in ("../../other", "/a")] + [({"md5": ABOVE}, "out"), (None, "out"), ({}, "in")],
    ids=["up", "root", "md5", "entry", "altered entry"],
)
def test_a_forged_run_reaches_no_other_file(root: Path, changed: dict[str, str] | None, named: str) -> None:
    forge_run(root, ABOVE if changed is None else store(root, listing(root, **changed), ".dir"), named)
    said = steps(root, ["repro", "--pull"])
    assert "was altered and is not used" in said
    assert (root.parent / "other").read_text() == "mine\n"
    assert (root / "in").read_text() == "x\n"
    assert [(file.name, file.read_text()) for file in (root / "out").iterdir()] == [("a", "made\n")]


def test_what_was_altered_is_named_and_reaches_no_file(root: Path) -> None:
    """A list of files in three ways, and a file. DVC itself would write what such a list names, with `verify` too."""
    steps(root, ["repro"], ["push"])
    [lists] = (root.parent / "remote/files").rglob("*.dir")
    [file] = (file for file in (root.parent / "remote/files").rglob("*") if file.is_file() and file != lists)
    sound, made = lists.read_bytes(), file.read_bytes()
    up = listing(root, relpath="../../other")
    renamed, no_list = sound.replace(b'"a"', b'"b"'), sound.replace(b"[{", b"[[{")
    for altered, content in ((lists, up), (lists, renamed), (lists, no_list), (file, b"Made\n")):
        run_in(root, "rm", "-rf", "out", ".dvc/cache", ".dvc/tmp")
        altered.chmod(0o644)
        altered.write_bytes(content)
        said = steps(root, ["pull"])
        assert f"{altered.parent.name}/{altered.name} of DVC's cache or remote was altered" in said
        assert (root.parent / "other").read_text() == "mine\n"
        assert not [path for path in (root / "out").rglob("*") if path.is_file()]
        lists.write_bytes(sound)
        file.write_bytes(made)


@pytest.mark.slow
def test_a_night_writes_no_other_file(root: Path, bucket: Bucket, s3: S3) -> None:
    (root / ".dvc/config").write_text(f"[core]\nremote = r\n['remote \"r\"']\nurl = {bucket.url}/dvc\n")
    run_in(root, "dvc", "repro", "-q")
    run_in(root, "dvc", "push", "-q")
    commit(root, "made")
    [key] = [key for key in bucket.list("dvc/files") if key.endswith(".dir")]
    body = json.dumps([{"md5": hashlib.md5(b"made\n").hexdigest(), "relpath": name} for name in ("../../b", "a")])
    s3.client().put_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/{key}", Body=body)
    with open_workspace(root, git(root, "rev-parse", "HEAD"), "run", bucket) as work:
        isolate(work.root)
        [out] = read_lock(work.root)["one"]["outs"]
        with pytest.raises(UserError, match=out["md5"][2:]):
            restore(work, {"out": out["md5"]}, print)
        assert not (work.root.parent / "b").exists()
        assert not (work.root / "out").exists()
