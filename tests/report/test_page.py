"""The page as a browser gets it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.report.collect import collect
from cspipe.report.page import render
from tests.cli.browser import CHROMIUM, browser
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
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def html(tree: Path, params: Params) -> str:
    return render(collect(tree, params), STAGES)


@pytest.fixture
def page(html: str) -> Page:
    """The page, parsed; its tags balance."""
    return Page(html)


def test_nothing_is_loaded_but_the_run_log(html: str, page: Page) -> None:
    loaded = [attributes[key] for _, attributes in page.tags for key in ("src", "data", "poster") if key in attributes]
    assert [src for src in loaded if not src.startswith("data:image/")] == [
        "log/prepare.js", "log/train.js", "log/sample%40cs-100.js", "log/report.js",
    ]  # fmt: skip
    assert page.all("link") == []
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert links == ["https://arxiv.org/abs/2312.06285"]
    assert not [word for word in ("url(", "@import") if word in html.partition("</style>")[0]]


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
    index.update(other_kinds=HOSTILE, enlarged=9876)
    write_json(tree / "data/prepared/index.json", index)
    metrics = json.loads((tree / "metrics/cs-10.json").read_text())
    metrics["provenance"][0]["device"] = HOSTILE
    write_json(tree / "metrics/cs-10.json", metrics)
    html = render(collect(tree, load_params(tree / "params.yaml")), [*STAGES, HOSTILE])
    page = Page(html)
    assert len(page.all("img")) == 2 + 2 * len(VARIANTS)
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert len(page.all("script")) == len(STAGES) + 2
    assert sum(HOSTILE in text for _, text in page.texts) >= 5
    assert "9,876" in html


def test_the_run_log_script_knows_the_stages(page: Page) -> None:
    (script,) = [text for element, text in page.texts if element == "script"]
    found = re.search(r"const stages = (\[.*?\]);", script)
    assert found
    assert json.loads(found[1]) == STAGES
    assert "innerHTML" not in script


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_phone_shows_the_page_without_scrolling_sideways_and_readable_charts(html: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    with browser(tmp_path, "about:blank") as tab:
        tab.size(390, 844)
        tab.call("Page.navigate", url=(tmp_path / "report.html").as_uri())
        tab.until("document.readyState == 'complete' && !!document.querySelector('.chart')")
        assert tab.js("document.documentElement.scrollWidth") == 390
        words = "[...document.querySelectorAll('.chart-box text, .legend *')]"
        assert tab.js(f"Math.min(...{words}.map(each => each.getBoundingClientRect().height))") > 10
        right = "Math.max(...[...document.querySelectorAll('.chart text')].map(e => e.getBoundingClientRect().right))"
        assert tab.js(right) < 390
