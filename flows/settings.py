"""params.yaml of a run: a preset of the revision with the run's overrides, checked before anything is queued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspipe.config.overlays import read_preset, set_keys
from cspipe.config.params import Params
from cspipe.config.params_file import ParamsError, parse_params
from cspipe.runtime.files import whole_file

PRESETS = Path("cspipe/config/presets")


def write_params(root: Path, preset: str, overrides: Mapping[str, Any]) -> Params:
    """Write `root`/params.yaml, the revision's preset with overrides such as {"train.images": 1000}, and return it.

    Raises UserError for an unknown preset, and ParamsError for an unknown key or a value that the models refuse, with
    all problems in one line, as a flow run's state shows it; params.yaml is then as it was.
    """
    try:
        found = read_preset(preset, root / PRESETS)
        tree = set_keys(found.tree, overrides, "overrides")
        params = parse_params(tree, f"preset {preset} with its overrides")
    except ParamsError as error:
        raise ParamsError(" ".join(str(error).split())) from None
    with whole_file(root / "params.yaml") as beside:
        beside.write_text(found.text(tree), encoding="utf-8")
    return params
