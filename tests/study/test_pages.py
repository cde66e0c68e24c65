"""The page of a study and that of all claims, from results alone."""

import re
from pathlib import Path

import pytest

from cspipe.runtime.errors import UserError
from cspipe.study.definition import Study
from cspipe.study.pages import FINDINGS, overview, page, write_pages
from cspipe.study.results import RESULTS, read_results
from tests.study.conftest import Make

CLAIM = {"text": "It is better.", "kind": "lower", "row": "cs", "than": "plain", "score": "frechet"}


def test_cell_that_failed_is_named_and_its_seed_missing(made: Make) -> None:
    text = page(made({("plain", None): [10.0, 20.0], ("cs", None): [1.0, None]}))
    assert "| cs | 1.00 (1 missing) |" in text
    assert "**Failed**: `made-cs-None-1` (cspipe train: out of memory)." in text


def test_same_results_give_the_same_bytes_and_can_be_read_back(made: Make, tmp_path) -> None:
    results = made({("plain", "1000"): [9.0, 9.5], ("plain", "2000"): [4.0, 5.0]})
    for name in ("a", "b"):
        (tmp_path / name / FINDINGS).parent.mkdir(parents=True)
        (tmp_path / name / FINDINGS).touch()
    first, again = (write_pages(results, tmp_path / name) for name in ("a", "b"))
    for suffix in (".json", ".md", ".png"):
        assert first.with_suffix(suffix).read_bytes() == again.with_suffix(suffix).read_bytes()
    assert read_results(first.with_suffix(".json")) == results


@pytest.mark.parametrize(
    ("reference", "told"),
    [(None, "128 of each side"), (128, "128 of each side"), (60, "128 samples, compared with 60 images")],
)
def test_a_small_set_of_images_is_told_beside_the_samples(made: Make, reference: int | None, told: str) -> None:
    results = made({("plain", None): [9.0, 9.1]})
    setting = results.setting.model_copy(update={"reference_images": reference})
    assert f"N = {told}" in page(results.model_copy(update={"setting": setting}))


def test_claim_written_after_a_run_is_marked_and_the_commit_of_the_claims_named(made: Make) -> None:
    results = made({("plain", None): [10.0, 10.1], ("cs", None): [9.0, 9.1]}, [CLAIM])
    late = results.model_copy(update={"late": ["It is better."]})
    assert "; written after the runs)" in page(late)
    assert "written after the runs" not in page(results)
    assert f"Claims: commit {'b' * 12}" in page(results)


def test_every_claim_has_a_row_with_its_verdict(made: Make) -> None:
    better = made({("plain", None): [10.0, 10.0], ("cs", None): [9.0, 8.9]}, [CLAIM])
    worse = made({("plain", None): [10.0, 10.0], ("cs", None): [12.0, 12.1]}, [CLAIM])
    text = overview([worse.model_copy(update={"name": "first"}), better], "Found.\n")
    rows = [line for line in text.splitlines() if line.startswith("| It is better.")]
    assert [row.split("|")[2].strip() for row in rows] == ["**not held**", "**held**"]
    assert text.index("Found.") < text.index("## first") < text.index("## made")
    assert "`uv run cspipe study made --jobs 2`" in text


def test_a_bar_in_a_claim_or_its_numbers_begins_no_cell(made: Make) -> None:
    claim = {**CLAIM, "text": "|bias| falls", "score": "exposure_50"}
    results = made({("plain", None): [10.0, 10.1], ("cs", None): [9.0, 9.1]}, [CLAIM])
    for cell in results.cells:
        cell.variants["ddim-10"].scores["exposure_50"] = 0.1
    study = Study.model_validate(results.study.model_dump() | {"scores": ["exposure_50"], "claims": [claim]})
    lines = overview([results.model_copy(update={"study": study})], "").splitlines()
    (row,) = [line for line in lines if "bias" in line]
    assert len(re.split(r"(?<!\\)\|", row)) == 5
    assert r"| \|bias\| falls |" in row
    assert r"| \|exposure_50\| of cs minus" in row


def test_overview_is_made_of_what_lies_in_the_folder_and_damage_is_named(made: Make, tmp_path: Path) -> None:
    (tmp_path / FINDINGS).parent.mkdir()
    (tmp_path / FINDINGS).write_text("Found.\n")
    results = made({("plain", None): [10.0, 10.0], ("cs", None): [9.0, 8.9]}, [CLAIM])
    write_pages(results, tmp_path)
    assert (tmp_path / RESULTS / "README.md").read_text() == overview([results], "Found.\n")
    (tmp_path / RESULTS / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"other\.json"):
        write_pages(results, tmp_path)
