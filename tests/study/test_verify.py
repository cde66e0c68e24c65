"""What of a study is not reproduced, without running it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from cspipe.runtime.errors import UserError
from cspipe.study.definition import Defined
from cspipe.study.results import RESULTS, Results
from cspipe.study.run import FOLDER
from cspipe.study.verify import own_clone, verify

Make = Callable[..., Results]
Verify = Callable[..., list[str]]
SCORES = {("plain", None): [9.0, 8.0, 8.6]}


@pytest.fixture
def verified(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """verified([8.9, ...]): what is not reproduced where cells have these distances; with what differs, and `count`."""
    committed = made(SCORES)
    (tmp_path / RESULTS).mkdir(parents=True)
    (tmp_path / RESULTS / "made.json").write_text(committed.to_json())
    cells = tuple(SimpleNamespace(row=cell.row, point=cell.point, seed=cell.seed) for cell in committed.cells)

    def run(
        distances: list[float | None],
        processor: str = "a processor",
        code: bool = False,
        count: int | None = None,
        recall: float = 0.5,
    ) -> list[str]:
        found = made({("plain", None): distances})
        for cell in found.cells:
            for sampled in cell.variants.values():
                sampled.scores["recall"] = recall
        if count is not None:
            found = found.model_copy(update={"cells": found.cells[1:2]})  # the middle one is what a count of 1 takes
        found = found.model_copy(update={"setting": found.setting.model_copy(update={"processor": processor})})
        monkeypatch.setattr("cspipe.study.verify.run_study", lambda *_: found)
        monkeypatch.setattr("cspipe.study.verify.own_clone", lambda *_: nullcontext(tmp_path))
        monkeypatch.setattr("cspipe.study.verify.other_code", lambda *_: ["code"] if code else [])
        return verify(Defined("made", committed.study, cells), tmp_path, 1, print, count)

    return run


def test_a_cell_that_fails_is_not_reproduced(verified: Verify) -> None:
    """On another processor, where an interval is asked for and a mean without the cell may lie in it."""
    failed = ["made-plain-None-1, which failed: cspipe train: out of memory"]
    assert verified([9.0, None, 8.6], processor="another") == failed


def test_the_same_machine_and_code_have_to_give_the_same_digits(verified: Verify) -> None:
    assert verified([9.0, 8.0, 8.6]) == []
    assert len(verified([9.0, 8.0, 8.7])) == 1


@pytest.mark.parametrize(("distance", "reproduced"), [(8.7, True), (14.0, False)])
def test_elsewhere_means_have_to_lie_in_the_interval(verified: Verify, distance: float, reproduced: bool) -> None:
    assert (verified([9.0, 8.0, distance], code=True) == []) == reproduced
    assert (verified([9.0, 8.0, distance], processor="another") == []) == reproduced


def test_a_part_of_the_cells_has_to_give_the_same_digits_with_other_code_but_not_on_another_processor(
    verified: Verify,
) -> None:
    assert verified([9.0, 8.0, 8.6], code=True, count=1) == []
    assert len(verified([9.0, 8.1, 8.6], code=True, count=1)) == 1
    assert verified([9.0, 8.1, 8.6], processor="another", count=1) == []
    assert len(verified([9.0, 9.5, 8.6], processor="another", count=1)) == 1


def test_only_another_processor_may_reach_another_image(verified: Verify) -> None:
    """Of 128, where no seed has another recall."""
    assert verified([9.0, 8.0, 8.6], processor="another", recall=0.5 + 1 / 128) == []
    assert len(verified([9.0, 8.0, 8.6], processor="another", recall=0.5 + 2 / 128)) == 1
    assert len(verified([9.0, 8.0, 8.6], code=True, recall=0.5 + 1 / 128)) == 1


def test_a_second_verification_leaves_the_first_one_alone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "made-verify"
    folder.mkdir(parents=True)
    (folder / "cell").touch()
    running = FileLock(f"{folder}.lock").acquire()
    with running, pytest.raises(UserError, match="is running already"), own_clone(tmp_path, folder, "made"):
        pytest.fail("two at once")
    assert (folder / "cell").exists()
