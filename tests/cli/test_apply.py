"""`cspipe inpaint` and `cspipe deocclude` with models that the real stages have trained, for seconds each."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cspipe.cli.apply import ROUNDS, inpaint, open_sampler
from cspipe.runtime.errors import UserError
from tests.cli.test_main import cspipe
from tests.conftest import Tree, change
from tests.stages.conftest import stages

REPAINT = {"repaint": {"rounds": 3, "masks": ["half"]}}


def trained(folder: Path, params: Tree, *lines: str) -> Path:
    """A folder with params.yaml and the models that some stages make of it."""
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    stages(folder, *lines)
    return folder


@pytest.fixture(scope="session")
def quick(small: Tree) -> Tree:
    """The small parameters, plain training, a compensated variant that comes second."""
    variants = {name: small["variants"][name] for name in ("ddim-100", "cs-10")}
    return change(small, {"variants": variants, "train.method": "plain", "variants.ddim-100.steps": 4})


@pytest.fixture(scope="session")
def inpainting(tmp_path_factory: pytest.TempPathFactory, quick: Tree) -> Path:
    """A net and a module of task inpaint."""
    folder = tmp_path_factory.mktemp("trained") / "inpaint"
    return trained(folder, change(quick, {"task": "inpaint"}), "prepare", "train", "compensate")


@pytest.fixture(scope="session")
def deoccluding(tmp_path_factory: pytest.TempPathFactory, quick: Tree) -> Path:
    """A net of task deocclude."""
    params = change(quick, {"task": "deocclude", "data.avatars.paired": "glasses"})
    return trained(tmp_path_factory.mktemp("trained") / "deocclude", params, "prepare", "train")


@pytest.fixture(scope="session")
def generating(tmp_path_factory: pytest.TempPathFactory, quick: Tree) -> Path:
    """A net that was trained without conditions."""
    return trained(tmp_path_factory.mktemp("trained") / "generate", quick, "prepare", "train")


@dataclass
class Desk:
    """A person's folder, the working directory of the test."""

    params: Tree

    def use(self, changes: Tree) -> None:
        """Change params.yaml, after the models were trained."""
        Path("params.yaml").write_text(yaml.safe_dump(change(self.params, changes), sort_keys=False))


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Desk]:
    """at(folder): work in a copy of a folder, with face.png, 30 x 40, and hole.png, a box of a quarter of it."""

    def at(folder: Path) -> Desk:
        desk = shutil.copytree(folder, tmp_path / "desk")
        monkeypatch.chdir(desk)
        rng = np.random.Generator(np.random.PCG64(0))
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save("face.png")
        mask = np.zeros((40, 30), np.uint8)
        mask[10:30, 5:20] = 255
        Image.fromarray(mask).save("hole.png")
        return Desk(yaml.safe_load(Path("params.yaml").read_text()))

    return at


def pixels(path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def fill(image: str = "face.png", mask: str = "hole.png", out: str = "out.png", **options: object) -> NDArray[np.uint8]:
    inpaint(Path(image), Path(mask), Path(out), **options)  # type: ignore[arg-type]
    return pixels(out)


def test_inpaint_as_typed(at: Callable[[Path], Desk], inpainting: Path) -> None:
    at(inpainting)
    done = cspipe("inpaint", "face.png", "--mask", "hole.png", "-o", "new/out.png", "--variant", "cs-10", "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert "25.0% of the image filled (variant cs-10, seed 7)" in done.stdout
    hole, known = pixels("hole.png") > 0, pixels("hole.png") == 0
    assert pixels("new/out.png").shape == (40, 30, 3)
    assert (pixels("new/out.png")[known] == pixels("face.png")[known]).all()
    assert (pixels("new/out.png")[hole] != pixels("face.png")[hole]).mean() > 0.9
    assert [path.name for path in Path("new").iterdir()] == ["out.png"]


def test_deocclude_as_typed(at: Callable[[Path], Desk], deoccluding: Path) -> None:
    at(deoccluding)
    done = cspipe("deocclude", "face.png", "-o", "out.png")
    assert done.returncode == 0, done.stderr
    assert "variant ddim-100, seed 0" in done.stdout
    assert (pixels("out.png")[:5] == pixels("face.png")[:5]).all()
    assert (pixels("out.png")[35:] == pixels("face.png")[35:]).all()
    assert (pixels("out.png")[5:35] != pixels("face.png")[5:35]).mean() > 0.9


def test_an_unconditional_net_repaints(at: Callable[[Path], Desk], generating: Path) -> None:
    """By the variant that says how, else by the first one in a number of rounds of our choice."""
    desk = at(generating)
    name, sampler = open_sampler("inpaint", Path("models"), None)
    assert (name, sampler.rounds, sampler.fills) == ("ddim-100", ROUNDS, True)
    desk.use({"variants.again": {**desk.params["variants"]["ddim-100"], **REPAINT}})
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
        ({"model": Path("elsewhere")}, "elsewhere/main/model.safetensors: not a model"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    at: Callable[[Path], Desk], inpainting: Path, options: Tree, problem: str
) -> None:
    at(inpainting)
    Image.new("L", (8, 8), 255).save("small.png")
    before = sorted(path for path in Path().rglob("*") if "models" not in path.parts)
    with pytest.raises(UserError, match=problem):
        fill(**options)
    assert sorted(path for path in Path().rglob("*") if "models" not in path.parts) == before


def test_a_model_of_another_task_is_refused(
    at: Callable[[Path], Desk], inpainting: Path, deoccluding: Path, generating: Path
) -> None:
    """One that takes away fills no holes, and one without conditions takes nothing away."""
    at(inpainting)
    for models, task in ((inpainting, "deocclude"), (deoccluding, "inpaint"), (generating, "deocclude")):
        with pytest.raises(UserError, match=rf"a net of task {models.name}, not {task}; set task: {task} in params"):
            open_sampler(task, models / "models", None)


def test_a_module_of_another_net_is_refused(at: Callable[[Path], Desk], inpainting: Path, generating: Path) -> None:
    at(inpainting)
    shutil.rmtree("models/main")
    shutil.copytree(generating / "models/main", "models/main")
    with pytest.raises(UserError, match="models/compensation: fit against another net than that of models/main"):
        fill(variant="cs-10")
    shutil.rmtree("models/compensation")
    with pytest.raises(UserError, match=r"models/compensation/.* run `dvc repro compensate`"):
        fill(variant="cs-10")
    fill(variant="ddim-100")
