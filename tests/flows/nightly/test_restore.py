"""Which variants a night checks."""

from pathlib import Path

import pytest

from cspipe.runtime.errors import UserError
from flows.nightly.restore import variants_of


def test_variants_that_another_preset_left_in_dvc_lock_are_not_checked(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("variants: {ddim-10: {steps: 10}, cs-10: {steps: 10}, new: {steps: 2}}\n")
    drawn = {
        "sample@old": ["models/main"],
        "sample@cs-10": ["models"],
        "sample@ddim-10": ["models/main", "data/prepared"],
    }
    lock = {name: {"deps": [{"path": path} for path in paths]} for name, paths in drawn.items()}
    assert variants_of(tmp_path, lock, ["models/main"]) == ["ddim-10", "cs-10"]
    assert variants_of(tmp_path, lock, ["models/compensation"]) == ["cs-10"]
    del lock["sample@cs-10"]
    with pytest.raises(UserError, match=r"has samples of no variant in params\.yaml; tag the commit"):
        variants_of(tmp_path, lock, ["models/compensation"])
