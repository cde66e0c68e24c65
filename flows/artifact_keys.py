"""Names of Prefect's artifacts, for those that make them and those that only look: these need no torch."""

from __future__ import annotations

import re


def key(*words: str) -> str:
    """An artifact key: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
