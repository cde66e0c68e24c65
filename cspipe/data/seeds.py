"""Seeds derived from their purpose: a run that resumes at image n draws what it would have drawn at image n anyway."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed from the run's seed and a purpose, such as ("step", images_seen)."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
