"""Read the exact package versions that a revision pins in its pyproject.toml."""

from __future__ import annotations

import tomllib


def read_pins(pyproject: str) -> list[str]:
    """Return the requirements (`numpy==2.5.5 ; python_full_version >= '3.12'`) that a pyproject.toml sets for uv."""
    return list(tomllib.loads(pyproject).get("tool", {}).get("uv", {}).get("constraint-dependencies", []))
