"""What a finished run is saved as and compared with."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from cspipe.runtime.git import git
from flows.experiment import save_experiment, scores_recorded
from flows.workspace import Workspace, open_workspace
from tests.conftest import ROOT
from tests.stages.conftest import new_repository


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


def test_runs_that_end_at_once_are_all_saved_and_a_persons_experiment_goes_on(tmp_path: Path) -> None:
    """Their worktrees share the references through which DVC runs and saves experiments."""
    names = [f"point-{number}" for number in range(4)]
    clone = new_repository(tmp_path / "clone", {".gitignore": "/.cspipe/\n/curves/*", "a.txt": "unchanged"})
    head, refs = git(clone, "rev-parse", "HEAD"), "refs/exps"
    git(clone, "update-ref", f"{refs}/exec/EXEC_BASELINE", "HEAD")  # of a `dvc exp run`
    with ExitStack() as stack, ThreadPoolExecutor(len(names)) as threads:
        spaces = [stack.enter_context(open_workspace(clone, head, name, None)) for name in names]
        for name, space in zip(names[1:], spaces[1:], strict=True):  # the first has nothing new
            (space.root / "a.txt").write_text(name)
            for folder in ("curves", "metrics"):
                (space.root / folder).mkdir()
            (space.root / "curves" / "train.json").write_text(name)
        list(threads.map(lambda space, name: save_experiment(space, name, print), spaces, names))
    baseline = f"{refs}/{head[:2]}/{head[2:]}"
    saved = git(clone, "for-each-ref", "--format=%(refname)", refs).splitlines()
    assert sorted(saved) == [*(f"{baseline}/{name}" for name in names), f"{refs}/exec/EXEC_BASELINE"]
    assert git(clone, "show", f"{baseline}/point-0:a.txt") == "unchanged"
    for name in names[1:]:
        assert git(clone, "show", f"{baseline}/{name}:a.txt") == name
        assert git(clone, "show", f"{baseline}/{name}:curves/train.json") == name
    assert git(clone, "rev-parse", "HEAD") == head
