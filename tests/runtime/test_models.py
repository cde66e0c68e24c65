"""Model files: what is written is read, and what cannot be is told."""

from pathlib import Path

import pytest
import torch

from cspipe.runtime.errors import UserError
from cspipe.runtime.models import FILE, load_weights, read_config, save_model


def test_weights_and_configuration_come_back(tmp_path: Path) -> None:
    raw, ema, read = (torch.nn.Linear(3, 2) for _ in range(3))
    save_model(tmp_path, {"raw": raw, "ema": ema}, {"size": 16, "names": ["a"]})
    load_weights(read, tmp_path, "ema")
    assert torch.equal(read.weight, ema.weight)
    (tmp_path / "config.json").unlink()
    assert read_config(tmp_path, "train") == {"size": 16, "names": ["a"]}


def test_file_that_is_no_model_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    for content in (None, b"", b"not a model"):
        if content is not None:
            (tmp_path / FILE).write_bytes(content)
        with pytest.raises(UserError, match="run `dvc repro train`"):
            read_config(tmp_path, "train")


def test_bit_that_changed_in_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, {"raw": torch.nn.Linear(3, 2), "ema": torch.nn.Linear(3, 2)}, {"steps": 100})
    content = (tmp_path / FILE).read_bytes()
    for place in (content.index(b"100") + 2, len(content) - 1, len(content) - 40):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{FILE}.*damaged"):
            read_config(tmp_path, "train")


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, {"raw": torch.nn.Linear(3, 2)}, {})
    with pytest.raises(UserError, match="do not fit the net"):
        load_weights(torch.nn.Linear(4, 2), tmp_path, "raw")
