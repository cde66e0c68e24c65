"""What a finished run is saved as and compared with."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from cspipe.runtime.git import git
from flows.experiment import save_experiment, scores_recorded
from flows.workspace import Workspace, open_workspace
from tests.conftest import ROOT
from tests.stages.conftest import new_repository, run_in


def metrics(kid: float, **provenance: object) -> str:
    tree = json.loads((ROOT / "metrics/cs-10.json").read_text())
    tree["efflite0"]["kid"] = kid
    tree["provenance"][0] |= provenance
    return json.dumps(tree)


def test_only_scores_of_the_same_measure_are_compared(tmp_path: Path) -> None:
    """A de-occlusion's distance beside that of generated faces would be called an improvement."""
    names, recorded = ("same", "other-task", "other-data", "gone"), metrics(0.5, reference_sha256="a")
    clone = new_repository(tmp_path / "clone", {f"metrics/{name}.json": recorded for name in names})
    for name, text in (
        ("same", metrics(0.1, reference_sha256="a", torch="2.11")),
        ("other-task", metrics(0.1, reference_sha256="a", task="deocclude")),
        ("other-data", metrics(0.1, reference_sha256="b")),
    ):
        (clone / "metrics" / f"{name}.json").write_text(text)
    (clone / "metrics" / "gone.json").unlink()
    workspace = Workspace(clone, git(clone, "rev-parse", "HEAD"), None)
    assert {name: found.scores.kid for name, found in scores_recorded(workspace).items()} == {"same": 0.5}


@pytest.mark.slow
def test_runs_that_end_at_once_are_all_saved(tmp_path: Path) -> None:
    """Their worktrees share the references that DVC saves through."""
    names = [f"point-{number}" for number in range(4)]
    clone = new_repository(tmp_path / "clone", {"dvc.yaml": "stages: {}", ".gitignore": "/.cspipe/\n", "a.txt": ""})
    with ExitStack() as stack, ThreadPoolExecutor(len(names)) as threads:
        head = git(clone, "rev-parse", "HEAD")
        spaces = [stack.enter_context(open_workspace(clone, head, name, None)) for name in names]
        for name, space in zip(names, spaces, strict=True):
            (space.root / "a.txt").write_text(name)
        list(threads.map(lambda space, name: save_experiment(space, name, print), spaces, names))
    for name in names:
        run_in(clone, "dvc", "exp", "apply", "-q", name)
        assert (clone / "a.txt").read_text() == name
