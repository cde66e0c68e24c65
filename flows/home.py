"""Where a worker works: the pull step of all deployments (prefect.yaml), run on the worker before each flow."""

from __future__ import annotations

import os
from pathlib import Path

from cspipe.runtime.errors import UserError


def enter() -> dict[str, str]:
    """Make the worker's CSPIPE_HOME the working folder; {"directory": it} for Prefect.

    Prefect's own `set_working_directory` with `{{ $CSPIPE_HOME }}` would be filled in where `prefect deploy` is typed,
    if the variable is set there. Raises UserError if it is not set on the worker, or names no clone.
    """
    home = os.environ.get("CSPIPE_HOME", "")
    if not home or not (Path(home) / "prefect.yaml").is_file():
        raise UserError(
            f"CSPIPE_HOME={home!r} of this worker is no clone of the project (no prefect.yaml there); "
            "start workers with `uv run cspipe worker POOL` in the clone"
        )
    os.chdir(home)
    return {"directory": home}
