"""params.yaml of a run: a preset of the revision with the run's overrides, checked before anything is queued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dvc.utils.serialize import modify_yaml

from cspipe.config.params import Params
from cspipe.config.params_file import ParamsError, parse_params
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

PRESETS = Path("cspipe/config/presets")


def write_params(root: Path, preset: str, overrides: Mapping[str, Any]) -> Params:
    """Write `root`/params.yaml, the revision's preset with overrides such as {"train.images": 1000}, and return it.

    Raises UserError for an unknown preset or key and ParamsError for a value that the models refuse; params.yaml is
    then as it was.
    """
    file = root / PRESETS / f"{preset}.yaml"
    if not file.is_file():
        found = ", ".join(sorted(path.stem for path in (root / PRESETS).glob("*.yaml")))
        raise UserError(f"no preset {preset!r} in this revision; it has {found}")
    with whole_file(root / "params.yaml") as beside:
        beside.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
        if overrides:  # else byte for byte the preset
            with modify_yaml(str(beside)) as tree:  # keeps the comments
                for key, value in overrides.items():
                    _set(tree, key, value)
        return _read(beside, f"preset {preset} with its overrides")


def _read(file: Path, where: str) -> Params:
    """A params file, validated. Raises ParamsError with all problems in one line, as a flow run's state shows it."""
    try:
        return parse_params(yaml.safe_load(file.read_text(encoding="utf-8")), where)
    except ParamsError as error:
        raise ParamsError(" ".join(str(error).split())) from None


def _set(tree: Any, key: str, value: Any) -> None:
    """Replace the value of a dotted key. Raises UserError if params.yaml has no such key."""
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.get(section) if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or last not in tree:
        raise UserError(f"override {key!r}: params.yaml has no such key; `cspipe params show demo` prints them all")
    tree[last] = value  # type: ignore[index]  # ruamel's mappings can be written
