"""The page as a browser gets it."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.report.collect import collect
from cspipe.report.page import correction_words, render, sampler_words, scale_position
from cspipe.report.results import Bracket
from tests.report.conftest import VARIANTS, write_json, write_tree

STAGES = ["prepare", "train", "sample@cs-100", "report"]
VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Checks that tags balance; keeps tags with their attributes, and texts by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def html(tree: Path, params: Params) -> str:
    """The page of the made-up run."""
    return render(collect(tree, params), STAGES)


@pytest.fixture
def page(html: str) -> Page:
    """The page, parsed; its tags balance."""
    return Page(html)


def test_nothing_is_loaded_but_the_run_log(page: Page) -> None:
    loaded = [attributes[key] for _, attributes in page.tags for key in ("src", "data", "poster") if key in attributes]
    assert [src for src in loaded if not src.startswith("data:image/")] == [
        "log/prepare.js", "log/train.js", "log/sample%40cs-100.js", "log/report.js",
    ]  # fmt: skip
    assert page.all("link") == []
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert links == ["https://arxiv.org/abs/2312.06285"]


def test_style_loads_nothing(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_links_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a in page.all("a") if a["href"].startswith("#")} <= set(ids)


def test_rows_follow_params_between_the_brackets(html: str) -> None:
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    rows = re.findall(r'<th scope="row">([^<]+)', body)
    assert rows == ["held-out real images", *VARIANTS, "uniform noise"]
    assert len(re.findall('<div class="bar"', body)) == len(rows)
    assert body.count('class="bracket"') == 2
    assert body.index("21.4 ± 1.8") < body.index("19.3") < body.index("0.736")


def test_against_the_test_split_the_real_pictures_are_those_of_training(tree: Path, params: Params) -> None:
    settings = params.evaluate.model_copy(update={"reference": "test"})
    html = render(collect(tree, params.model_copy(update={"evaluate": settings})), STAGES)
    assert '<th scope="row">real training images</th>' in html
    assert "held-out real images" not in html


def test_ties_are_marked(html: str) -> None:
    assert re.findall(r'<th scope="row">([^<]+)<span class="tag">tie', html) == ["cs-100", "ddpm-100"]
    assert "cs-100 and ddpm-100 tie" in html


def test_every_picture_is_shown_and_described(page: Page) -> None:
    images = page.all("img")
    assert len(images) == 2 + 2 * len(VARIANTS)
    assert all(image["alt"] and "pixels" in image["class"] for image in images)


def test_large_pictures_are_not_drawn_as_blocks(tree: Path, params: Params) -> None:
    large = params.model_copy(update={"data": params.data.model_copy(update={"size": 256})})
    page = Page(render(collect(tree, large), STAGES))
    assert all("pixels" not in image["class"] for image in page.all("img"))


def test_extractor_is_named_and_its_limits(html: str, tree: Path, params: Params) -> None:
    warning = "not Inception FID"
    assert "EfficientNet-Lite0 features, against the train split" in html
    assert warning in html
    assert "N = 512 samples" in html
    settings = params.evaluate.model_copy(update={"extractor": "inception-v3-compat"})
    for name in VARIANTS:
        path = tree / f"metrics/{name}.json"
        content = json.loads(path.read_text())
        content["inception"] = content.pop("efflite0")
        content["provenance"][0]["extractor"] = "inception-v3-compat"
        write_json(path, content)
    inception = render(collect(tree, params.model_copy(update={"evaluate": settings})), STAGES)
    assert warning not in inception
    assert "Inception v3" in inception


def test_all_charts_have_an_accessible_title(html: str) -> None:
    titles = re.findall(r'<svg class="chart"[^>]*role="img"><title>([^<:]+)', html)
    assert titles == [
        "Loss", "Compensated share", "Gradient norm", "Loss of the module", "Norm ratio", "Remaining error",
        "Alpha-bar", "Kappa",
    ]  # fmt: skip


def test_plain_training_has_no_compensated_charts(tree: Path, params: Params) -> None:
    (tree / "curves/train-norm.tsv").write_text("t\tnorm_ratio\terror\n")
    plain = params.model_copy(update={"train": params.train.model_copy(update={"method": "plain"})})
    html = render(collect(tree, plain), STAGES)
    assert "Compensated share" not in html
    assert ">in training<" not in html


def test_same_inputs_same_bytes(html: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    write_tree(elsewhere)
    assert render(collect(elsewhere, load_params(elsewhere / "params.yaml")), STAGES) == html
    assert str(tmp_path) not in html


def test_hostile_texts_stay_texts(tree: Path) -> None:
    settings = yaml.safe_load((tree / "params.yaml").read_text())
    settings["tracking"]["project"] = HOSTILE
    settings["data"].update(source="folder", path=f"/secret/{HOSTILE}".replace("/img", "img"))
    (tree / "params.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))
    index = json.loads((tree / "data/prepared/index.json").read_text())
    index.update(source=HOSTILE, style=HOSTILE, licence=HOSTILE, skipped=[{"name": HOSTILE, "reason": HOSTILE}])
    write_json(tree / "data/prepared/index.json", index)
    metrics = json.loads((tree / "metrics/cs-10.json").read_text())
    metrics["provenance"][0]["device"] = HOSTILE
    write_json(tree / "metrics/cs-10.json", metrics)
    html = render(collect(tree, load_params(tree / "params.yaml")), [*STAGES, HOSTILE])
    page = Page(html)
    assert len(page.all("img")) == 2 + 2 * len(VARIANTS)
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert len(page.all("script")) == len(STAGES) + 2
    assert sum(HOSTILE in text for _, text in page.texts) >= 4


def test_the_run_log_script_knows_the_stages(page: Page) -> None:
    (script,) = [text for element, text in page.texts if element == "script"]
    found = re.search(r"const stages = (\[.*?\]);", script)
    assert found
    assert json.loads(found[1]) == STAGES
    assert "innerHTML" not in script


def test_settings_in_words(params: Params) -> None:
    variants = params.variants
    assert [sampler_words(v) for v in variants.values()] == ["ddim", "ddim", "ddim", "ddpm"]
    assert sampler_words(variants["cs-10"].model_copy(update={"eta": 0.3})) == "ddim, η 0.3"
    times = "\N{MULTIPLICATION SIGN}"
    words = [correction_words(v.correction) for v in variants.values()]
    assert words == ["none", "kappa", f"0.5 {times} 0.5, cap 0.3", "none"]


def bracket(best: float, worst: float) -> Bracket:
    return Bracket(heldout_kid=best, heldout_frechet=1.0, noise_kid=worst, noise_frechet=9.0)


def test_bar_is_a_log_scale_from_real_to_noise_that_keeps_what_lies_outside_at_its_ends() -> None:
    places = [scale_position(kid, bracket(0.001, 0.1)) for kid in (-0.2, 0.001, 0.01, 0.1, 0.7)]
    assert places == [0, 0, 50, 100, 100]


@pytest.mark.parametrize("best", [0.0, -0.0004, math.nan])
def test_bar_without_a_positive_best_spans_four_decades(best: float) -> None:
    assert scale_position(0.005, bracket(best, 0.5)) == 50


@pytest.mark.parametrize(("value", "worst"), [(math.nan, 0.1), (0.1, math.nan), (0.1, 0.0), (0.1, 0.001)])
def test_bar_is_empty_without_a_scale(value: float, worst: float) -> None:
    assert scale_position(value, bracket(0.001, worst)) is None
