"""Which files a stage reads and writes, as dvc.yaml has them.

DVC itself would tell, but takes seconds to start, and each stage asks this at its end. Understood are plain stages and
`foreach`; anything else is an error, not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cspipe.runtime.errors import UserError

REFERENCE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class StageFiles:
    """Paths, as in dvc.yaml, of what a stage reads and writes."""

    reads: tuple[Path, ...]
    writes: tuple[Path, ...]


def stage_files(root: Path, name: str) -> StageFiles:
    """Files and folders of a stage such as "train" or "sample@cs-100".

    Raises UserError if dvc.yaml or params.yaml of `root` do not tell.
    """
    try:
        stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        group, _, cell = name.partition("@")
        entry, values = stages[group], params
        if cell:
            items = _value(REFERENCE.fullmatch(entry["foreach"]), params)
            entry, values = entry["do"], {**params, "key": cell, "item": items[cell]}
        listed = [*entry.get("outs", []), *entry.get("metrics", [])]
        return StageFiles(_paths(entry.get("deps", []), values), _paths(listed, values))
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{root / 'dvc.yaml'}: the files of stage {name} cannot be read ({error!r})") from None


def _paths(entries: list[Any], values: Mapping[str, Any]) -> tuple[Path, ...]:
    """Paths of a list in dvc.yaml, each a string or a mapping of one path to its settings."""
    names = (next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries)
    return tuple(Path(REFERENCE.sub(lambda found: str(_value(found, values)), name)) for name in names)


def _value(reference: re.Match[str] | None, values: Any) -> Any:
    """What "${variants}" or "${item.reads}" stands for. Raises LookupError or TypeError."""
    if reference is None:
        raise LookupError("no reference of the form ${...}")
    for key in reference[1].split("."):
        values = values[key]
    return values
