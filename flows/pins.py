"""The exact versions of packages that a revision pins."""

from __future__ import annotations

import tomllib


def read_pins(pyproject: str) -> list[str]:
    """Requirements (`numpy==2.5.5 ; python_full_version >= '3.12'`) that uv holds to, from a pyproject.toml's text."""
    return list(tomllib.loads(pyproject).get("tool", {}).get("uv", {}).get("constraint-dependencies", []))
