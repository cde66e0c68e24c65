"""`cspipe inpaint` and `cspipe deocclude` with models as the stages store them, of stirred weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cspipe.cli.apply import ROUNDS, inpaint, open_sampler
from cspipe.runtime.errors import UserError
from tests.cli.test_inspect import cspipe
from tests.conftest import Tree, change
from tests.exchange.conftest import Stored, stored  # noqa: F401 (a fixture)

REPAINT = {"repaint": {"rounds": 3, "masks": ["half"]}}
TASKS: dict[str, Tree] = {
    "generate": {},
    "inpaint": {"task": "inpaint"},
    "deocclude": {"task": "deocclude", "condition.occluders": ["scarf"]},
}


@pytest.fixture
def at(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Tree) -> Callable[..., Tree]:  # noqa: F811
    """at("inpaint"): work in a folder with models and params.yaml, which is returned, of a task.

    The compensated variant comes second. There are face.png, 30 x 40, and hole.png, a box of a quarter of it.
    """

    def at(task: str) -> Tree:
        monkeypatch.chdir(tmp_path)
        stored(TASKS[task])
        variants = {name: small["variants"][name] for name in ("ddim-100", "cs-10")}
        quick = {"variants": variants, "train.method": "plain", "variants.ddim-100.steps": 4}
        Path("params.yaml").write_text(yaml.safe_dump(tree := change(small, quick | TASKS[task]), sort_keys=False))
        rng = np.random.Generator(np.random.PCG64(0))
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save("face.png")
        mask = np.zeros((40, 30), np.uint8)
        mask[10:30, 5:20] = 255
        Image.fromarray(mask).save("hole.png")
        return tree

    return at


def pixels(path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def fill(image: str = "face.png", mask: str = "hole.png", out: str = "out.png", **options: object) -> NDArray[np.uint8]:
    inpaint(Path(image), Path(mask), Path(out), **options)  # type: ignore[arg-type]
    return pixels(out)


def test_inpaint_as_typed(at: Callable[..., Tree]) -> None:
    at("inpaint")
    said = cspipe("inpaint", "face.png", "--mask", "hole.png", "-o", "new/out.png", "--variant", "cs-10", "--seed", "7")
    assert "25.0% of the image filled (variant cs-10, seed 7)" in said
    hole, known = pixels("hole.png") > 0, pixels("hole.png") == 0
    assert pixels("new/out.png").shape == (40, 30, 3)
    assert (pixels("new/out.png")[known] == pixels("face.png")[known]).all()
    assert (pixels("new/out.png")[hole] != pixels("face.png")[hole]).mean() > 0.9
    assert [path.name for path in Path("new").iterdir()] == ["out.png"]


def test_deocclude_as_typed(at: Callable[..., Tree]) -> None:
    at("deocclude")
    assert "variant ddim-100, seed 0" in cspipe("deocclude", "face.png", "-o", "out.png")
    assert (pixels("out.png")[:5] == pixels("face.png")[:5]).all()
    assert (pixels("out.png")[35:] == pixels("face.png")[35:]).all()
    assert (pixels("out.png")[5:35] != pixels("face.png")[5:35]).mean() > 0.9


def test_an_unconditional_net_repaints(at: Callable[..., Tree]) -> None:
    """By the variant that says how, else by the first one in a number of rounds of our choice."""
    tree = at("generate")
    name, sampler = open_sampler("inpaint", Path("models"), None)
    assert (name, sampler.rounds, sampler.fills) == ("ddim-100", ROUNDS, True)
    tree = change(tree, {"variants.again": tree["variants"]["ddim-100"] | REPAINT})
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    name, sampler = open_sampler("inpaint", Path("models"), None)
    assert (name, sampler.rounds, sampler.steps) == ("again", 3, 4)
    fill()
    known = pixels("hole.png") == 0
    assert (pixels("out.png")[known] == pixels("face.png")[known]).all()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"out": "out.jpg"}, "out.jpg: not the name of a PNG file.* -o out.png"),
        ({"out": "face.png/out.png"}, "face.png/out.png: cannot be written"),
        ({"image": "nobody.png"}, "nobody.png: cannot be read"),
        ({"image": "params.yaml"}, "params.yaml: not readable as PNG"),
        ({"mask": "small.png"}, "8 x 8 pixels, .* 30 x 40"),
        ({"variant": "nope"}, "--variant nope: .* ddim-100, cs-10"),
        ({"model": Path("elsewhere")}, "elsewhere/main/model.safetensors: not there"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(at: Callable[..., Tree], options: Tree, problem: str) -> None:
    at("inpaint")
    Image.new("L", (8, 8), 255).save("small.png")
    before = sorted(path for path in Path().rglob("*") if "models" not in path.parts)
    with pytest.raises(UserError, match=problem):
        fill(**options)
    assert sorted(path for path in Path().rglob("*") if "models" not in path.parts) == before


def test_a_model_of_another_task_is_refused(at: Callable[..., Tree], stored: Stored) -> None:  # noqa: F811
    """One that takes away fills no holes, and one without conditions takes nothing away."""
    at("inpaint")
    shutil.rmtree("models")
    for task, other in (("inpaint", "deocclude"), ("deocclude", "inpaint"), ("generate", "deocclude")):
        models = stored(TASKS[task]).rename(task)
        with pytest.raises(UserError, match=rf"a net of task {task}, not {other}; set task: {other} in params"):
            open_sampler(other, models, None)


def test_a_module_of_another_net_is_refused(at: Callable[..., Tree], stored: Stored) -> None:  # noqa: F811
    at("inpaint")
    Path("models").rename("inpaint")
    models = stored()
    shutil.rmtree(models / "compensation")
    with pytest.raises(UserError, match=r"models/compensation/.* run `dvc repro compensate`"):
        fill(variant="cs-10")
    Path("inpaint/compensation").rename(models / "compensation")
    with pytest.raises(UserError, match="models/compensation: fit against another net than that of models/main"):
        fill(variant="cs-10")
    fill(variant="ddim-100")
