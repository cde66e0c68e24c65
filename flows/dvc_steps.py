"""DVC commands one after the other in one process: each start of DVC costs one to two seconds of a core.

`python -m flows.dvc_steps '[["pull", "prepare"], ["repro", "--single-item", "train"]]'`, run by flows/dvc_stage.py in
a workspace. Ends with the status of the first that fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

BEGINS = "== step "
"""Printed before each command with its place in the list, so that the caller knows which one failed."""
PUSH_KEPT = "push-kept"


def run(steps: Sequence[Sequence[str]]) -> int:
    """Run the steps in the current folder, DVC's commands and those below; 0 or the status that ended them."""
    from dvc.cli import main as dvc  # here: the constants above are wanted by processes that leave DVC to this one

    ours: dict[str, Callable[..., int]] = {PUSH_KEPT: push_kept_by_git}
    for place, (name, *rest) in enumerate(steps):
        print(f"{BEGINS}{place}", flush=True)
        status = ours[name](*rest) if name in ours else dvc(["--wait-for-lock", name, *rest])
        if status:
            return status
    return 0


def push_kept_by_git(name: str) -> int:
    """Push a stage's outputs that git keeps too: `dvc push --run-cache` leaves them out, but a restore needs them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            [stage] = repo.stage.collect(name)
            for out in stage.outs:
                if not out.use_cache:
                    out.use_cache = True  # of this object alone; the run cache has kept a copy
                    for objects in out.get_used_objs().values():
                        repo.cloud.push(objects)
    except (DvcException, OSError) as error:
        print(f"ERROR: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
