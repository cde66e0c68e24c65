"""The parameters and the code of a stage, which must not change while it runs: DVC records them when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import PIPELINE, code_ids, fill_in, shipped

PARAMS = Path("params.yaml")
SHOWN = 3


class Inputs:
    """What dvc.yaml declares as parameters and code of a stage, such as "sample@cs-10", as it was at the start."""

    def __init__(self, stage: str) -> None:
        name, _, self._variant = stage.partition("@")
        pipeline = yaml.safe_load(shipped(PIPELINE).read_text(encoding="utf-8"))["stages"].get(name, {})
        self._declared: dict[str, list[str]] = {"params": [], "deps": []} | pipeline.get("do", pipeline)
        self._first = self._read()

    def check(self) -> None:
        """Raise UserError, naming what changed since the start, if anything did."""
        first, now = self._first, self._read()
        if now == first:
            return
        changed = sorted(name for name in first.keys() | now.keys() if first.get(name) != now.get(name))
        if not (first and now):
            changed = [str(PARAMS)]
        more = f" and {len(changed) - SHOWN} more" if changed[SHOWN:] else ""
        raise UserError(
            f"{', '.join(changed[:SHOWN])}{more} changed while the stage ran, and DVC would record what is there now "
            "for a result of what was there before. To keep the work, undo the change and run the same command again; "
            "to start anew with the change, just run it again"
        )

    def _read(self) -> dict[str, Any]:
        """Return values and hashes by name; empty if params.yaml is not valid, which the stage itself refuses."""
        try:
            params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
            keys, paths = (self._filled_in(kind, params) for kind in ("params", "deps"))
            values = {f"{PARAMS}: {name}": value for key in keys for name, value in _leaves(params, key.split("."))}
            return values | code_ids(*(path for path in paths if path.startswith("cspipe/")))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            return {}

    def _filled_in(self, kind: str, params: dict[str, Any]) -> list[str]:
        """Return the entries of dvc.yaml with names from params.yaml filled in."""
        variants = [self._variant] if self._variant else []
        return [path for entry in self._declared[kind] for path in fill_in(entry, params, variants)]


def _leaves(tree: Any, keys: list[str], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of the values below `keys`."""
    if keys:
        key, *rest = keys
        yield from _leaves(tree[key], rest, f"{name}.{key}" if name else key)
    elif isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, [], f"{name}.{key}")
    else:
        yield name, tree
