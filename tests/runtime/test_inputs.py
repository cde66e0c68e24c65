"""Parameters and code that change under a running stage: DVC would record the new ones for a result of the old."""

import shutil
from pathlib import Path

import pytest
import yaml

from cspipe.runtime import provenance
from cspipe.runtime.errors import UserError
from cspipe.runtime.inputs import Inputs
from tests.conftest import ROOT, Tree, change

STAGES = ("train", "sample@cs-10", "report")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that this process takes its code from, as the current folder."""
    shutil.copytree(ROOT / "cspipe", tmp_path / "cspipe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(changed: Tree | str) -> dict[str, str]:
    """What stages that run say of changed values, or of a line more in a file of code; those that may go on do not."""
    running = {stage: Inputs(stage) for stage in STAGES}
    params, said = Path("params.yaml"), {}
    if isinstance(changed, str):
        Path(changed).write_text(Path(changed).read_text() + "\n# a line more\n")
    else:
        params.write_text(yaml.safe_dump(change(yaml.safe_load(params.read_text()), changed)))
    for stage, inputs in running.items():
        try:
            inputs.check()
        except UserError as error:
            said[stage] = str(error).partition(" changed while")[0]
    return said


def test_a_stage_is_refused_that_depends_on_what_changed(project: Path) -> None:
    rate = "params.yaml: train.learning_rate"
    assert refused({"train.learning_rate": 0.5}) == {"train": rate, "report": rate}
    steps = "params.yaml: variants.cs-10.steps"
    assert refused({"variants.cs-10.steps": 7}) == {"sample@cs-10": steps, "report": steps}
    assert refused("cspipe/methods/compensated.py") == {"train": "cspipe/methods/compensated.py"}
    assert refused("cspipe/methods/noise_control.py") == {}
    assert refused("cspipe/runtime/stage.py") == {}


def test_many_changes_are_counted_and_a_broken_file_is_one(project: Path) -> None:
    several = {f"train.{key}": 7 for key in ("images", "batch", "clip", "warmup", "flip")}
    assert refused(several)["train"].endswith("train.flip and 2 more")
    inputs = Inputs("train")
    (project / "params.yaml").write_text("train: [")
    with pytest.raises(UserError, match=r"^params\.yaml changed while the stage ran"):
        inputs.check()
