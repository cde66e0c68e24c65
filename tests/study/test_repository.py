"""Whether a finished cell of a study still counts: only while the code that its parameters choose is the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.study.repository import Repository, check_images, code_of
from tests.stages.conftest import commit, new_repository

STAGES = {
    "train": {"cmd": "true", "deps": ["cspipe/loss.py", "cspipe/methods/${train.method}.py"]},
    "sample": {"foreach": "${variants}", "do": {"cmd": "true", "deps": ["cspipe/samplers/${item.sampler}.py"]}},
}
PARAMS: dict[str, Any] = {"train": {"method": "plain"}, "variants": {"few": {"sampler": "ddim"}}}


def test_a_cell_is_done_while_its_own_code_stays(tmp_path: Path) -> None:
    names = [f"cspipe/{name}.py" for name in ("loss", "methods/plain", "methods/rival", "samplers/ddim")]
    pipeline = {"dvc.yaml": yaml.safe_dump({"stages": STAGES}), "params.yaml": yaml.safe_dump(PARAMS)}
    root = new_repository(
        tmp_path.resolve() / "clone", dict.fromkeys(names, "") | pipeline | {"metrics/few.json": "{}"}
    )
    files = [root / name for name in names]
    experiment = git(root, "rev-parse", "HEAD")
    cell: Any = SimpleNamespace(tree=PARAMS, variants=["few"])

    def done() -> bool:
        head = git(root, "rev-parse", "HEAD")
        return Repository(root, head, code_of(root)).done(cell, experiment)

    assert done()
    (root / "cspipe/methods/rival.py").write_text("# edited")
    commit(root, "a file that it does not use")
    assert done()
    for file in (files[0], files[1], files[3]):
        file.write_text("# edited")
        commit(root, "a file that it uses")
        assert not done(), file
        file.write_text("")
        commit(root, "as before")
        assert done(), file


def test_images_that_only_the_repository_has_are_refused_before_a_cell_runs(tmp_path: Path) -> None:
    """In its worktree each cell would end with "does not exist", beside images that are there."""
    root = new_repository(tmp_path.resolve() / "home", {"dvc.yaml": yaml.safe_dump({"stages": STAGES}), "in-git": ""})

    def check(path: str | None, source: str = "folder") -> None:
        data = SimpleNamespace(path=None if path is None else Path(path), source=source)
        cell: Any = SimpleNamespace(params=SimpleNamespace(data=data))
        check_images(Repository(root, git(root, "rev-parse", "HEAD"), ()), [cell])

    (root / "mine").mkdir()
    with pytest.raises(UserError, match=r"data\.path mine .*`dvc add mine`"):
        check("mine")
    check("mine", "cifar10")  # is downloaded there
    check("in-git")
    check("nowhere")  # its cell fails by itself
    check(None)
    check(str(root / "mine"))
    (root / "mine.dvc").touch()
    git(root, "add", "mine.dvc")
    with pytest.raises(UserError, match=r"data\.path mine"):  # worktrees have what is committed
        check("mine")
    commit(root, "tracked by DVC")
    check("mine")
