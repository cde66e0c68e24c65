"""The page of all claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspipe.runtime.errors import UserError
from cspipe.study.overview import overview, write_overview
from cspipe.study.results import RESULTS, write_results
from tests.study.conftest import Make

CLAIM = {"text": "It is better.", "kind": "lower", "row": "cs", "than": "plain", "score": "frechet"}


def test_every_claim_has_a_row_with_its_verdict_and_the_main_study_stands_first(made: Make) -> None:
    better = made({("plain", None): [10.0, 10.0], ("cs", None): [9.0, 8.0]}, [CLAIM])
    worse = made({("plain", None): [10.0, 10.0], ("cs", None): [12.0, 13.0]}, [CLAIM])
    page = overview([better, worse.model_copy(update={"name": "convergence"})])
    rows = [line for line in page.splitlines() if line.startswith("| It is better.")]
    assert [row.split("|")[2].strip() for row in rows] == ["**not held**", "**held**"]
    assert page.index("(convergence.png)") < page.index("## convergence") < page.index("## made")
    assert "`uv run cspipe study made --jobs 2`" in page


def test_page_is_made_of_what_lies_in_the_folder_and_damage_is_told(made: Make, tmp_path: Path) -> None:
    results = made({("plain", None): [10.0, 10.0], ("cs", None): [9.0, 8.0]}, [CLAIM])
    (tmp_path / RESULTS).mkdir(parents=True)
    write_results(results, tmp_path)
    assert write_overview(tmp_path).read_text() == overview([results])
    (tmp_path / RESULTS / "made.json").write_text("{}")
    with pytest.raises(UserError, match=r"made\.json: not written by this version"):
        write_overview(tmp_path)
