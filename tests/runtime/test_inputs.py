"""Parameters and code that change under a running stage: DVC would record the new ones for a result of the old."""

import shutil
from pathlib import Path

import pytest
import yaml

from cspipe.runtime import inputs
from cspipe.runtime.errors import UserError
from tests.conftest import ROOT, Tree, change

STAGES = ("train", "sample@cs-10", "report")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that this process takes its code from, as the current folder."""
    shutil.copytree(ROOT / "cspipe", tmp_path / "cspipe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(changed: Tree | str) -> dict[str, str]:
    """What stages that run say of changed values, or of a line more in a file of code; those that may go on do not."""
    running = {stage: inputs.Inputs(stage) for stage in STAGES}
    params, said = Path("params.yaml"), {}
    if isinstance(changed, str):
        Path(changed).write_text(Path(changed).read_text() + "\n# a line more\n")
    else:
        params.write_text(yaml.safe_dump(change(yaml.safe_load(params.read_text()), changed)))
    for stage, beginning in running.items():
        try:
            beginning.check()
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


def test_a_change_of_what_no_stage_reads_or_of_the_spelling_alone_is_none(project: Path) -> None:
    beginning = inputs.Inputs("train")
    text = Path("params.yaml").read_text()
    assert "learning_rate: 0.001" in text
    Path("params.yaml").write_text("# a line more\n" + text.replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    Path("cspipe/diffusion/.denoiser.py.swp").write_bytes(b"\0")
    beginning.check()


def test_removed_code_is_named_and_many_changes_are_counted(project: Path) -> None:
    beginning = inputs.Inputs("train")
    Path("cspipe/compensation.py").rename("cspipe/elsewhere.py")
    with pytest.raises(UserError, match=r"^cspipe/compensation\.py changed while the stage ran"):
        beginning.check()
    several = {f"train.{key}": 7 for key in ("images", "batch", "clip", "warmup", "flip")}
    assert refused(several)["train"].endswith("train.warmup and 2 more")


@pytest.mark.parametrize("text", ["train: [", "train: " + 5000 * "[", "train: 3", ""])
def test_an_edit_that_is_not_finished_is_one_of_the_file(project: Path, text: str) -> None:
    beginning = inputs.Inputs("train")
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^params\.yaml.* changed while the stage ran"):
        beginning.check()


def test_the_code_of_an_installed_package_is_that_of_its_lock(project: Path) -> None:
    """DVC records cspipe.lock there, whatever is installed meanwhile."""
    Path("cspipe.lock").write_text("{}")
    assert refused("cspipe/compensation.py") == {}
    assert refused("cspipe.lock") == dict.fromkeys(STAGES, "cspipe.lock")
