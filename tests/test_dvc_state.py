"""Where DVC keeps what it knows of a checkout's files: it loads pickles from there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.stages.conftest import new_clone


def test_no_other_user_can_replace_what_dvc_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "clone"
    new_clone(root, {})
    monkeypatch.chdir(root)
    with Repo() as repo:
        kept = Path(repo.site_cache_dir).resolve()
    assert kept.is_relative_to(root)
    folders = [kept, *kept.relative_to(root).parents]
    assert not [name for name in folders if stat.S_IMODE((root / name).stat().st_mode) & 0o002]
    assert os.access(kept / "links" / "cache.db", os.R_OK)
