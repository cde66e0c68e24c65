"""Keys of Prefect's artifacts, apart from flows/artifacts.py so that code which only reads them imports no torch."""

from __future__ import annotations

import re


def key(*words: str) -> str:
    """Return an artifact key made of `words`: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
