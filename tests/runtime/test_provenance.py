"""Git's ids of code, as git gives them."""

import subprocess
from pathlib import Path

import pytest

from cspipe.runtime.git import git
from cspipe.runtime.provenance import code_ids


def test_folders_that_hold_caches_alone_are_not_in_gits_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that removes a package leaves them."""
    for name in ("code/a.py", "code/b/c.py", "code/b/__pycache__/c.pyc", "code/gone/d/__pycache__/e.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    git(tmp_path, "add", "code/a.py", "code/b/c.py")
    tree = git(tmp_path, "write-tree", "--prefix=code/")
    monkeypatch.setattr("cspipe.runtime.provenance.ROOT", tmp_path)
    assert code_ids("code") == {"code": tree[:12]}
