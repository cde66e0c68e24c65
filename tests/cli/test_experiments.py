"""The narrow table of DVC's experiments; `tests/stages/test_dvc.py` reads real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from cspipe.cli.experiments import Experiment, change, differences, read_experiments, table
from cspipe.runtime.errors import UserError

SCORES = {"kid": 0.422024, "kid_std": 0.0260814, "frechet": 193.075}


def test_differences_are_typed_like_those_of_dvc_and_new_parts_are_one() -> None:
    before = {"train": {"images": 64, "method": "plain"}, "variants": {"a": {"steps": 10}, "old": {"steps": 1}}}
    now = {"train": {"images": 96, "method": "plain"}, "variants": {"a": {"steps": 10}, "new": {"steps": 5, "eta": 0}}}
    changes = [change(*found) for found in differences(before, now)]
    assert changes == ["train.images=96", "variants.old left out", "variants.new added"]
    assert list(differences(now, now)) == []


def test_table_fits_a_terminal_and_says_what_is_not_done() -> None:
    many = {f"sampler-of-many-steps-{i}": SCORES for i in range(6)}
    commit = Experiment("main", "", {"train": {"images": 64, "compensation": {"scale": 0.1}}}, many)
    other = Experiment("vital-moth", "", {"train": {"images": 1000, "compensation": {"scale": 1.0}}}, many)
    queued = Experiment("later", "Queued", {"train": {"images": 2000, "compensation": {"scale": 0.1}}}, {})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table([[commit, other, queued]]))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("sampler-of-many-steps-" in line and "422.0 ± 26.1" in line and "193" in line for line in lines) == 12
    assert "(Queued)" in lines[-1]


def test_outside_of_a_repository_dvc_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not inside of a DVC repository"):
        read_experiments(tmp_path, 1)
