"""A folder is what a stage depends on: what runs again, and which training states are still used, after a change."""

import json
import shutil
from pathlib import Path

import pytest

from tests.stages.conftest import run_in, stage
from tests.stages.test_preemption import start, states, wait_until

CHOICES = ("backbones", "compensators", "corrections", "methods", "samplers", "sources", "tasks")


def add_choices(clone: Path) -> None:
    for folder in CHOICES:
        (clone / "cspipe" / folder / "another.py").write_text('"""Another one."""\n')


def edit(clone: Path, *files: Path) -> None:
    """Change the text of source files and nothing that they do."""
    for file in files:
        (clone / file).write_text((clone / file).read_text() + "\n# edited\n")


def outside(clone: Path) -> list[Path]:
    """The files that cannot change a result."""
    folders = (clone / "cspipe/runtime", clone / "cspipe/config")
    return [file.relative_to(clone) for folder in folders for file in folder.rglob("*.py")]


def changed(clone: Path, *targets: str) -> set[str]:
    return set(json.loads(run_in(clone, "dvc", "status", "--json", *targets).stdout))


def test_a_new_choice_or_an_edit_outside_trains_nothing_again(clone: Path) -> None:
    add_choices(clone)
    edit(clone, *outside(clone))
    (clone / "params.yaml").write_text((clone / "params.yaml").read_text().replace("gpus: 1", "gpus: 2"))
    assert changed(clone, "train") == set()
    assert changed(clone) <= {"sample@ddim-100", "sample@cs-10"}  # they depend on every correction


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("cspipe/compensation.py", "train"),
        ("cspipe/methods/compensated.py", "train"),
        ("cspipe/samplers/ddim.py", "sample@ddim-100"),
        ("cspipe/sampling/reverse.py", "sample@ddim-100"),
        ("cspipe/ingest/prepare.py", "prepare"),
    ],
)
def test_an_edit_of_what_a_stage_does_runs_it_again(clone: Path, file: str, first: str) -> None:
    edit(clone, Path(file))
    assert first in changed(clone)
    assert ("train" in changed(clone)) == (first == "train")


def test_a_state_of_training_outlives_them_and_not_an_edit_of_the_loss(clone: Path) -> None:
    for folder in ("models/main", ".cspipe"):
        shutil.rmtree(clone / folder, ignore_errors=True)
    process = start(clone, "train")
    wait_until(lambda: states(clone, "train"), process)
    process.kill()
    process.wait()
    add_choices(clone)
    edit(clone, *outside(clone))
    kept = shutil.copytree(clone / ".cspipe", clone.parent / "kept")
    assert "going on from" in stage(clone, "train").stdout
    shutil.copytree(kept, clone / ".cspipe", dirs_exist_ok=True)
    edit(clone, Path("cspipe/compensation.py"))
    assert "going on from" not in stage(clone, "train").stdout
