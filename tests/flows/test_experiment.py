"""What a finished run is compared with."""

import json
from pathlib import Path

from cspipe.runtime.git import git
from flows.experiment import scores_recorded
from flows.workspace import Workspace
from tests.conftest import ROOT


def metrics(kid: float, **provenance: object) -> str:
    tree = json.loads((ROOT / "metrics/cs-10.json").read_text())
    tree["efflite0"]["kid"] = kid
    tree["provenance"][0] |= provenance
    return json.dumps(tree)


def test_only_scores_of_the_same_measure_are_compared(tmp_path: Path) -> None:
    """A de-occlusion's distance beside that of generated faces would be called an improvement."""
    (tmp_path / "metrics").mkdir()
    git(tmp_path, "init", "-q")
    for name in ("same", "other-task", "other-data", "gone"):
        (tmp_path / "metrics" / f"{name}.json").write_text(metrics(0.5, reference_sha256="a"))
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "record")
    for name, text in (
        ("same", metrics(0.1, reference_sha256="a", torch="2.11")),
        ("other-task", metrics(0.1, reference_sha256="a", task="deocclude")),
        ("other-data", metrics(0.1, reference_sha256="b")),
    ):
        (tmp_path / "metrics" / f"{name}.json").write_text(text)
    (tmp_path / "metrics" / "gone.json").unlink()
    workspace = Workspace(tmp_path, git(tmp_path, "rev-parse", "HEAD").strip(), None)
    assert {name: found.scores.kid for name, found in scores_recorded(workspace).items()} == {"same": 0.5}
