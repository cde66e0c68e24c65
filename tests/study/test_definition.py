"""What a study's folder may say, and what people are told when it says something else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cspipe.runtime.errors import UserError
from cspipe.study.definition import define
from cspipe.study.names import study_names
from tests.conftest import ROOT, Tree

STUDY: Tree = {
    "question": "Which one?",
    "seeds": [3, 4],
    "rows": {"plain": {"train.method": "plain"}, "cs": {"variants": ["ddim-100", "cs-10"]}},
    "points": {"48": {"train.images": 48}, "96": {"train.images": 96}},
    "axis": "images seen",
    "variants": ["ddim-100"],
    "scores": ["frechet", "kid"],
    "claims": [{"text": "x", "kind": "speedup", "row": "cs / cs-10", "than": "plain / ddim-100", "score": "frechet"}],
}


def folder(root: Path, params: Tree, **changes: Any) -> Path:
    """A clone with one study, `one`."""
    place = root / "studies/one"
    place.mkdir(parents=True)
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (place / "study.yaml").write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return root


def test_cells_are_rows_at_points_for_each_seed(tmp_path: Path, small: Tree) -> None:
    cells = define(folder(tmp_path, small), "one").cells
    assert len(cells) == 8
    assert [cell.name for cell in cells[:3]] == ["one-plain-48-3", "one-plain-48-4", "one-cs-48-3"]
    last = cells[-1]
    assert (last.params.seed, last.params.train.images, last.params.train.method) == (4, 96, "compensated")
    assert last.variants == ("ddim-100", "cs-10")
    assert cells[0].params.train.method == "plain"


@pytest.mark.parametrize("name", ["*", "-x", "a b", "x\n"])
def test_a_folder_whose_name_is_none_of_a_reference_is_no_study(tmp_path: Path, small: Tree, name: str) -> None:
    place = folder(tmp_path, small) / "studies/one"
    place.rename(place.with_name(name))
    with pytest.raises(UserError, match="no study"):
        define(tmp_path, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"a": {"train.metod": "plain"}}, "claims": []}, "rows.a: no key train.metod"),
        ({"rows": {"a": {"train.batch": 7}}, "claims": []}, "cell one-a-48-3: 1 problem"),
        ({"variants": ["ddim-7"], "claims": []}, "no variant ddim-7 in the study's params.yaml; it has ddim-100"),
        ({"claims": [{**STUDY["claims"][0], "row": "es"}]}, "claims.0.row: no 'es' here; there are plain / ddim-100"),
        ({"points": {"96": {}, "48": {}}, "claims": []}, "points must ascend: 96, 48"),
        ({"rows": {"a": {"variants": None}}, "claims": []}, "rows.a.variants: a list of names of variants, not None"),
        ({"rows": {"a": {"variants": "ab"}}, "claims": []}, "rows.a.variants: a list of names of variants, not 'ab'"),
        ({"points": {"48": {"variants": ["cs-10"]}}, "claims": []}, "points.48: variants cannot be changed here"),
        ({"rows": {"a-48": {}, "a": {}}, "points": {"48": {}, "48-48": {}}, "claims": []}, "two cells are named"),
    ],
)
def test_mistake_is_told_with_file_and_key(tmp_path: Path, small: Tree, changes: Tree, message: str) -> None:
    with pytest.raises(UserError) as caught:
        define(folder(tmp_path, small, **changes), "one")
    assert message in str(caught.value)
    assert "study.yaml" in str(caught.value)


@pytest.mark.parametrize("name", study_names(ROOT))
def test_studies_of_the_project_are_well_defined(name: str) -> None:
    assert define(ROOT, name).cells


def test_a_study_too_long_with_its_aliases_is_refused(tmp_path: Path, small: Tree) -> None:
    file = folder(tmp_path, small) / "studies/one/study.yaml"
    file.write_text(f"{file.read_text()}discussion: &all {'x' * 1000}\nmore: [{'*all, ' * 1000}]\n")
    with pytest.raises(UserError, match=r"study\.yaml: .*1000000"):
        define(tmp_path, "one")
