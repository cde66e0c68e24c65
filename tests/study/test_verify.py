"""What of a study is not reproduced, without running it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from cspipe.runtime.errors import UserError
from cspipe.study.clone import FOLDER
from cspipe.study.definition import Defined
from cspipe.study.results import RESULTS, Results
from cspipe.study.run import run_study
from cspipe.study.verify import verify

Make = Callable[..., Results]
SCORES = {("plain", None): [9.0, 8.0]}


def test_a_cell_that_fails_is_not_reproduced(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another processor, where an interval is asked for and a mean without the cell may lie in it."""
    committed, found = made(SCORES), made({("plain", None): [9.0, None]})
    (tmp_path / RESULTS).mkdir(parents=True)
    (tmp_path / RESULTS / "made.json").write_text(committed.to_json())
    monkeypatch.setattr("cspipe.study.verify.run_study", lambda *_, **__: found)
    monkeypatch.setattr("cspipe.study.verify.differences", lambda *_: ["another processor"])
    defined = Defined("made", committed.study, ())
    assert verify(defined, tmp_path, 1, print) == ["made-plain-None-1, which failed: cspipe train: out of memory"]


def test_a_second_verification_leaves_the_first_one_alone(made: Make, tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "made-verify"
    folder.mkdir(parents=True)
    (folder / "cell").touch()
    running = FileLock(f"{folder}.lock").acquire()
    with running, pytest.raises(UserError, match="is running already"):
        run_study(Defined("made", made(SCORES).study, ()), tmp_path, 1, print, folder=folder)
    assert (folder / "cell").exists()
