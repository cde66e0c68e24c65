"""Model folders with stirred weights, as the stages write them but without training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cspipe.cli.exchange import import_model
from cspipe.config.params import Params
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.models import FILE, save_model
from cspipe.stages.nets import new_compensator, new_main
from tests.conftest import Tree

CPU = Device(torch.device("cpu"), torch.float32, compile=False)
Stored = Callable[..., Path]


def slow(*values: Any) -> Any:
    """One more case of a test, left out of the fast ones."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def stored(params: Callable[..., Params], tmp_path: Path, stir: Callable[[nn.Module], nn.Module]) -> Stored:
    """stored({"model": ...}): a folder with main/ and compensation/ of the small parameters with these changes.

    stored(changes, mean=True): the main net's file has a mean image, as that of a trained one.
    """

    def make(changes: Tree | None = None, mean: bool = False) -> Path:
        chosen = params(changes)
        described = {"task": chosen.task, "channels": chosen.data.channels, "size": chosen.data.size}
        for name in ("main", "compensation"):
            (tmp_path / "models" / name).mkdir(parents=True)
        main, compensation = tmp_path / "models/main", tmp_path / "models/compensation"
        sections = {"model": chosen.model.model_dump(), "diffusion": chosen.diffusion.model_dump()}
        data = nn.ParameterDict({"mean": torch.linspace(-1, 1, 192).reshape(3, 8, 8)} if mean else {})
        save_model(main, {"ema": stir(new_main(chosen, CPU)), "data": data}, described | sections)
        sections = {"compensation": chosen.compensation.model_dump(), "main_sha256": sha256_file(main / FILE)}
        save_model(compensation, {"module": stir(new_compensator(chosen, CPU))}, described | sections)
        return main.parent

    return make


def refused(source: Path, out: Path, match: str, **options: Any) -> None:
    """It ends in one line, and nothing is written."""
    with pytest.raises(UserError, match=match) as error:
        import_model(source, out, **options)
    assert "\n" not in str(error.value)
    assert not out.exists()
