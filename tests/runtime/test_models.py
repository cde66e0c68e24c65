"""Model files: what is written is read, and what cannot be is told."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cspipe.runtime.errors import UserError
from cspipe.runtime.models import FILE, load_net, read_config, save_model


def test_weights_and_configuration_come_back(tmp_path: Path) -> None:
    raw, ema = (nn.Linear(3, 2) for _ in range(2))
    save_model(tmp_path, {"raw": raw, "ema": ema}, {"size": 16, "names": ["a"]})
    assert torch.equal(load_net(partial(nn.Linear, 3, 2), tmp_path, "ema").weight, ema.weight)
    assert (tmp_path / FILE).stat().st_mode == (tmp_path / "config.json").stat().st_mode, "as umask says"
    (tmp_path / "config.json").unlink()
    assert read_config(tmp_path, "train") == {"size": 16, "names": ["a"]}


def test_nets_that_other_threads_make_meanwhile_are_not_counted(tmp_path: Path) -> None:
    """As two requests to `cspipe serve` do."""

    def build() -> nn.Module:
        with ThreadPoolExecutor() as other:
            other.submit(nn.Linear, 3, 2).result()
        return nn.Linear(3, 2)

    save_model(tmp_path, {"ema": build()}, {})
    load_net(build, tmp_path, "ema")


def test_file_that_is_no_model_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    deep = "[" * 10**5
    save_file({"x": torch.ones(1)}, tmp_path / "deep", metadata={"cspipe": deep})
    save_file({"x": torch.ones(1)}, tmp_path / "list", metadata={"cspipe": "[[1, 2]]"})
    strange = [(tmp_path / name).read_bytes() for name in ("deep", "list")]
    for content in (None, b"", b"not a model", *strange):
        if content is not None:
            (tmp_path / FILE).write_bytes(content)
        with pytest.raises(UserError, match="run `dvc repro train`"):
            read_config(tmp_path, "train")


def test_a_pipe_is_not_waited_for(tmp_path: Path, pipe_at: Callable[[Path], None]) -> None:
    save_model(tmp_path, {"ema": nn.Linear(3, 2)}, {})
    pipe_at(tmp_path / FILE)
    with pytest.raises(UserError, match=FILE):
        read_config(tmp_path, "train")


def test_bit_that_changed_in_weights_or_configuration_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, {"raw": nn.Linear(3, 2), "ema": nn.Linear(3, 2)}, {"steps": 100})
    content = (tmp_path / FILE).read_bytes()
    for place in (content.index(b"100") + 2, len(content) - 1, len(content) - 40):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{FILE}.*damaged"):
            read_config(tmp_path, "train")


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (partial(nn.Linear, 4, 2), r"weight is .*\(2, 3\), not .*\(2, 4\)"),
        (partial(nn.Linear, 3, 2, bias=False), "bias"),
        (partial(nn.Linear, 3, 2, dtype=torch.float64), r"float32 .*, not torch\.float64"),
        (partial(nn.Linear, 10**9, 2), "1000000000"),
        (partial(nn.Linear, 10**15, 10**15), "'raw'"),
        (partial(nn.Linear, 10**30, 2), "'raw'"),
        (lambda: nn.ModuleList(nn.Linear(3, 2) for _ in range(10**9)), "2 tensors"),
        (partial(nn.BatchNorm1d, 2**28, affine=False), "tables"),
    ],
)
def test_weights_of_another_net_are_refused_before_there_is_one(
    tmp_path: Path, build: Callable[[], nn.Module], named: str
) -> None:
    """At once, whatever sizes and numbers of layers a stranger's configuration asks for."""
    save_model(tmp_path, {"raw": nn.Linear(3, 2)}, {})
    with pytest.raises(UserError, match=rf"{FILE}: .*{named}"):
        load_net(build, tmp_path, "raw")
