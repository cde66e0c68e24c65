"""`cspipe init`: projects of an installed package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cspipe.cli.init import init, pipeline
from cspipe.runtime.code_lock import LOCK, check_code, installed_code
from cspipe.runtime.errors import UserError
from tests.conftest import ROOT, Tree
from tests.stages.conftest import run_in, two_variants  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel of the working tree and what it needs; the working tree cannot be imported there.

    Of this environment's packages it takes the folder: files in it that name others, as that of this checkout, are for
    the interpreter's own folder alone.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    [here] = (folder / "venv").glob("lib/python*/site-packages")
    (here / "rest.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")) + "\n")
    [file] = folder.glob("*.whl")
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", folder / "venv/bin/python"]
    subprocess.run([*install, file], check=True)
    return here


def run(wheel: Path, folder: Path, *command: str, check: bool = True) -> str:
    """What a command prints in the wheel's environment, by a person whom git does not know."""
    path = os.pathsep.join([str(wheel.parents[2] / "bin"), os.environ["PATH"]])
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = clean | {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_project_of_the_wheel_runs_and_an_upgrade_runs_what_it_changes(
    wheel: Path,
    tmp_path: Path,
    two_variants: Tree,  # noqa: F811
) -> None:
    python = "import cspipe; print(cspipe.__file__)"
    assert run(wheel, tmp_path, "python", "-c", python).strip() == str(wheel / "cspipe/__init__.py")
    assert run(wheel, tmp_path, "python", "-c", "import flows", check=False)
    run(wheel, tmp_path, "cspipe", "init", "faces")
    faces = tmp_path / "faces"
    assert run(wheel, faces, "git", "status", "--short") == ""
    (faces / "params.yaml").write_text(yaml.safe_dump(two_variants, sort_keys=False))
    run(wheel, faces, "python", "-m", "dvc", "repro")
    assert (faces / "report/report.html").exists()
    assert set(re.findall(": (.*)", run(wheel, faces, "cspipe", "explain"))) == {"up to date"}
    assert "code of train: cspipe " in run(wheel, faces, "cspipe", "lineage", "models/main/model.safetensors")

    scores = wheel / "cspipe/evaluation/scores.py"
    newer = scores.read_text() + "# newer\n"
    scores.unlink()  # it may be a link to uv's cache
    scores.write_text(newer)
    refused = run(wheel, faces, "python", "-m", "cspipe.stages.report", check=False)
    assert LOCK in refused
    assert "Traceback" not in refused
    run(wheel, faces, "cspipe", "init", ".")
    explained = run(wheel, faces, "cspipe", "explain").splitlines()
    runs = {line.partition(":")[0] for line in explained if "would run" in line}
    assert runs == {"evaluate@ddim-100", "evaluate@cs-10", "report"}
    assert "cspipe.evaluation.scores" in run(wheel, faces, "cspipe", "explain", "evaluate@cs-10")
    run(wheel, faces, "python", "-m", "dvc", "repro")


def test_every_file_that_a_stage_of_the_checkout_depends_on_has_its_key() -> None:
    ours, code = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"], installed_code()
    for name, entry in yaml.safe_load(pipeline())["stages"].items():
        stage, checkout = entry.get("do", entry), ours[name].get("do", ours[name])
        [keys] = [each[LOCK] for each in stage["params"] if isinstance(each, dict)]
        named = [path for path in checkout["deps"] if path.startswith("cspipe/")]
        assert stage["deps"] == [path for path in checkout["deps"] if path not in named]
        assert len(keys) == len(named)
        for key, path in zip(keys, named, strict=True):
            inside = code
            for part in re.sub(r"\$\{[\w.]+\}", "*", key).split("."):
                inside = inside if part == "*" else inside[part]
            if (ROOT / path).is_dir():
                assert set(inside) == {file.stem for file in (ROOT / path).glob("*.py")}, path
        assert checkout | {"params": 0, "deps": 0} == stage | {"params": 0, "deps": 0}


@pytest.mark.parametrize("name", ["dvc.yaml", "params.yaml", ".dvc"])
def test_a_folder_that_has_the_files_already_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=re.escape(name)):
        init(tmp_path, "demo")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_dvc_reports_nothing_of_a_new_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC keeps what it sends in a file of the temporary folder."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.delenv("DVC_NO_ANALYTICS", raising=False)
    init(tmp_path / "faces", "demo")
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "0", "cspipe": {}}'])
def test_a_lock_of_other_code_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(UserError, match="cspipe init"):
        check_code(tmp_path)


def test_what_was_stopped_goes_on_and_what_a_person_changed_stays(tmp_path: Path) -> None:
    init(tmp_path, "demo")
    (tmp_path / "params.yaml").write_text("mine: 1\n")
    (tmp_path / ".gitignore").unlink()
    (tmp_path / LOCK).write_text("{")
    init(tmp_path, "demo")
    assert run_in(tmp_path, "git", "diff", "--name-only").stdout == "params.yaml\n"  # what is a person's is not staged
    assert (tmp_path / "params.yaml").read_text() == "mine: 1\n"
    assert (tmp_path / ".gitignore").read_text() == (ROOT / ".gitignore").read_text()
    check_code(tmp_path)
