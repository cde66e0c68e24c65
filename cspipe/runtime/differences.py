"""Differences between two trees of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Missing:
    """Placeholder for a value that one of the trees lacks."""

    def __str__(self) -> str:
        return "none"


MISSING = Missing()


def differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Iterate over (dotted key, old, new) of every value that differs between two trees; MISSING where one lacks it."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            name = f"{path}.{key}" if path else key
            yield from differences(before.get(key, MISSING), now.get(key, MISSING), name)
    elif before != now:
        yield path, before, now


def value_at(tree: Any, key: str) -> Any:
    """Return the value at a dotted key; MISSING if there is none."""
    for part in key.split("."):
        tree = tree.get(part, MISSING) if isinstance(tree, dict) else MISSING
    return tree
