"""DVC commands one after the other in one process: each start of DVC costs one to two seconds of a core.

`python -m flows.dvc_steps '[["pull", "prepare"], ["repro", "--single-item", "train"]]'`, run by flows/dvc_stage.py in
a workspace. Ends with the status of the first that fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo

BEGINS = "== step "
"""Printed before each command with its place in the list, so that the caller knows which one failed."""
PUSH_KEPT, ADOPT = "push-kept", "adopt"


def run(steps: Sequence[Sequence[str]]) -> int:
    """Run the steps in the current folder, DVC's commands and those below; 0 or the status that ended them."""
    from dvc.cli import main as dvc  # here: the constants above are wanted by processes that leave DVC to this one

    own: dict[str, Callable[..., int]] = {PUSH_KEPT: push_kept_by_git, ADOPT: adopt}
    for place, (name, *rest) in enumerate(steps):
        print(f"{BEGINS}{place}", flush=True)
        status = own[name](*rest) if name in own else dvc(["--wait-for-lock", name, *rest])
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


def adopt(file: str) -> int:
    """Take over results that exist already, listed in `file` by stage: the entry of dvc.lock, the outputs git keeps.

    Entries go into dvc.lock and the outputs that git keeps into the workspace; `dvc pull` brings the others.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    try:
        with Repo() as repo, repo.lock, modify_yaml("dvc.lock") as tree:
            tree.setdefault("schema", "2.0")
            for name, result in json.loads(Path(file).read_text()).items():
                tree.setdefault("stages", {})[name] = result["entry"]
                _check_out(repo, result["entry"], result["kept"])
    except (DvcException, OSError) as error:
        print(f"ERROR: {error}", flush=True)
        return 1
    return 0


def _check_out(repo: Repo, entry: dict[str, Any], paths: Sequence[str]) -> None:
    """Bring outputs of a lock entry that git keeps into the workspace, as copies, as DVC's run cache does."""
    stage = repo.stage_cache._create_stage(entry)
    with repo.stage_cache._cache_type_copy():
        for out in (out for out in stage.outs if out.def_path in paths and out.workspace_status()):
            for objects in out.get_used_objs().values():
                repo.cloud.pull(objects)
            out.checkout(force=True)


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
