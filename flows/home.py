"""The pull step of all deployments (prefect.yaml): it sets the working folder of a worker before each flow run."""

from __future__ import annotations

import os
from pathlib import Path

from cspipe.runtime.errors import UserError


def enter() -> dict[str, str]:
    """Make the worker's CSPIPE_HOME the working folder, and return {"directory": that folder} for Prefect.

    Prefect's own `set_working_directory` does not do: `{{ $CSPIPE_HOME }}` would be replaced by the value on the
    machine of `prefect deploy`, if it is set there. Raises UserError if the worker has none, or it names no clone.
    """
    home = os.environ.get("CSPIPE_HOME", "")
    if not home or not (Path(home) / "prefect.yaml").is_file():
        raise UserError(
            f"CSPIPE_HOME={home!r} of this worker is no clone of the project (no prefect.yaml there); "
            "start workers with `uv run cspipe worker POOL` in the clone"
        )
    os.chdir(home)
    return {"directory": home}
