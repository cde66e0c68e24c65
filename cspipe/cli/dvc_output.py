"""Running DVC for its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cspipe.runtime.errors import UserError


def dvc_output(root: Path, *arguments: str) -> str:
    """Run a DVC command, without analytics, and return its output. Raises UserError with DVC's error as one line."""
    command, quiet = [sys.executable, "-m", "dvc", *arguments], os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=root, env=quiet, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.rpartition("ERROR: ")[2].split()) or "no message"
        raise UserError(f"dvc {' '.join(arguments[:2])} in {root.resolve()}: {reason}")
    return done.stdout
