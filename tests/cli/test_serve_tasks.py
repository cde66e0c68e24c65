"""`cspipe serve` with a net of each task: one is told of its input, an image with a hole or with something in front."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from cspipe.cli.serve import Studio
from cspipe.data.conditions import masked
from cspipe.exchange.draw import variant_of
from cspipe.runtime.errors import UserError
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from tests.cli.browser import CHROMIUM, browser
from tests.cli.test_serve import ASKED, pixels, png, serving
from tests.conftest import Tree
from tests.exchange.conftest import CPU, Stored, slow, stored  # noqa: F401 (a fixture)

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
HOLE = np.broadcast_to(np.arange(8)[:, None] >= 4, (1, 8, 8))
TASKS = {"inpaint": {"task": "inpaint"}, "deocclude": {"task": "deocclude", "condition.occluders": ["scarf"]}}
GIVEN = {"image": png(IMAGE.transpose(1, 2, 0)), "hole": png(np.uint8(255) * HOLE[0])}


@pytest.fixture(autouse=True)
def _params_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Tree) -> None:
    """A folder whose params.yaml says what to compute on."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small))
    monkeypatch.chdir(tmp_path)


def asked(task: str) -> dict[str, str]:
    """What the page sends with an image, if there is one."""
    return {"generate": {}, "inpaint": GIVEN, "deocclude": {"image": GIVEN["image"]}}[task]


def condition(task: str) -> NDArray[np.uint8] | None:
    """What the net is told of it, for two images."""
    told = {"generate": None, "inpaint": masked(IMAGE[None], HOLE[None]), "deocclude": IMAGE[None]}[task]
    return None if told is None else told.repeat(2, axis=0)


@pytest.mark.parametrize("task", ["generate", "inpaint", slow("deocclude")])
def test_it_draws_what_the_stage_draws(stored: Stored, task: str) -> None:  # noqa: F811
    """And tells of the last call as such: an eps-net is not asked at the first step."""
    models = stored({**TASKS.get(task, {}), "diffusion.prediction": "eps"}, mean=True)
    studio, lines = Studio(models), []
    assert studio.about["task"] == task
    denoise, config = finished_denoiser(CPU, models / "main")
    for compensated in (False, True):
        studio.draw(ASKED | {"compensation": compensated} | asked(task), lines.append)
        variant = variant_of("ddim", 5, compensated, "mean")
        sampler = new_sampler(variant, denoise, config, CPU, models / "compensation", models / "main")
        expected = sampler([3, 4], condition(task))
        drawn = pixels(lines.pop()["images"])
        assert (drawn == expected).all()
    if task == "inpaint":
        assert (drawn[:, :, :4] == IMAGE[:, :4]).all()
    assert [line["t"] for line in lines] == [8, 6, 4, 2] * 2
    assert lines[-1]["done"] == lines[-1]["calls"]


@pytest.mark.parametrize(("task", "wrong"), [*((task, {}) for task in TASKS), ("inpaint", {"image": GIVEN["image"]})])
def test_an_image_that_is_missing_is_told(stored: Stored, task: str, wrong: dict[str, str]) -> None:  # noqa: F811
    with pytest.raises(UserError, match="needs an image"):
        Studio(stored(TASKS[task])).draw(ASKED | wrong, lambda line: None)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize("task", TASKS)
def test_the_page_in_a_browser(stored: Stored, task: str, tmp_path: Path) -> None:  # noqa: F811
    first = "document.querySelector('#gallery canvas').toDataURL()"
    models = stored(TASKS[task])
    with serving(models) as server, browser(tmp_path, f"{server.url}/#{server.token}") as tab:
        tab.size(1200, 900)
        tab.until("document.body?.innerText.includes('open an image')")
        assert tab.js("document.getElementById('draw').hidden && fill.disabled")
        tab.js("again(); new Promise(done => setTimeout(done, 1000))")  # another seed, and no image yet
        assert "rong" not in tab.js("said.className")
        tab.js(f"bitmap('{GIVEN['image']}').then(pick)")
        if task == "inpaint":
            left, top, side = tab.js("(box => [box.left, box.top, box.width])(mask.getBoundingClientRect())")
            tab.drag((left + 0.3 * side, top + 0.5 * side), (left + 0.7 * side, top + 0.5 * side))
        tab.js("fill.click()")
        tab.until("document.body.dataset.done == 1")
        drawn = tab.js(first)
        tab.js("document.getElementById('compensation').click()")
        tab.until("document.body.dataset.done == 2")
        assert tab.js(first) != drawn
        assert "rong" not in tab.js("said.className")
