"""What a run is asked to do: refused before there is a run, in one line, let go, or written to params.yaml."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from cspipe.config.params_file import load_params
from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from flows.local.record import Stack
from flows.request import check
from flows.settings import write_params
from tests.conftest import ROOT

API = "http://127.0.0.1:4200/api"


def committed(folder: Path) -> Path:
    """A clone that has the presets, and nothing else that is read."""
    shutil.copytree(ROOT / "cspipe/config/presets", folder / "cspipe/config/presets", dirs_exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "presets")
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone in which the workers of the server work."""
    monkeypatch.setenv("CSPIPE_HOME", str(tmp_path))
    clone = committed(tmp_path)
    Stack(clone, "mark", API).save()
    with temporary_settings({PREFECT_API_URL: API}):
        yield clone


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize(
    ("flow", "parameters", "says"),
    [
        ("pipeline", {"overrides": {"train.imagez": 1}}, "train.imagez"),
        ("pipeline", {"overrides": {"variants": {"x $(touch PWNED)": {}}}}, "x $(touch PWNED)"),
        ("pipeline", {"preset": "../demo"}, "../demo"),
        ("sweep", {"grid": {"train.micro_batch": [32, 7]}}, "train.micro_batch"),
        ("sweep", {"grid": [1]}, "grid"),
    ],
)
def test_what_would_fail_is_refused(flow: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(flow, parameters)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("clone")
def test_what_would_run_is_let_go() -> None:
    check("pipeline", {"preset": "demo", "overrides": {"train.images": 1024}})
    check("sweep", {"grid": {"train.batch": [64, 128], "train.micro_batch": [64]}})  # 64 alone would not divide 32


def test_what_this_clone_cannot_tell_is_let_go(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check("pipeline", {"preset": "nope", "revision": "of-a-colleague"})
    (clone / "cspipe/config/presets/demo.yaml").write_text(
        ""
    )  # other code than the revision's may read other parameters
    check("pipeline", {"preset": "nope"})
    monkeypatch.setenv("CSPIPE_HOME", str(clone.parent))
    check("pipeline", {"preset": "nope"})


def test_of_a_server_elsewhere_tags_and_commits_alone_are_known(clone: Path) -> None:
    """Its workers may have a newer HEAD, with presets that this clone lacks."""
    git(clone, "tag", "v1")
    with temporary_settings({PREFECT_API_URL: "http://elsewhere:4200/api"}):
        check("pipeline", {"preset": "nope"})
        check("pipeline", {"preset": "nope", "revision": "master"})
        for revision in ("v1", git(clone, "rev-parse", "HEAD")):
            with pytest.raises(UserError, match="'nope'"):
                check("pipeline", {"preset": "nope", "revision": revision})


def test_overrides_change_values_and_keep_the_comments(clone: Path) -> None:
    write_params(clone, "demo", {"train.images": 1024, "variants.cs-10.steps": 5})
    params = load_params(clone / "params.yaml")
    assert params.train.images == 1024
    assert params.variants["cs-10"].steps == 5
    assert "  images: 1024           # in all" in (clone / "params.yaml").read_text()
