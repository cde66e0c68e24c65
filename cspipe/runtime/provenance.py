"""Which code made a file, as git names it.

A commit id inside an output would change its bytes with every commit, its own included. Git's object ids name content:
they are the same in any clone, and `git log --find-object=ID` tells the commits that introduced it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def _object_id(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).digest()


def _blob(path: Path) -> bytes:
    return _object_id("blob", path.read_bytes())


def _tree(folder: Path) -> bytes:
    """Git's tree id of a source folder; caches are not in git. Entries sort as git does: folders as if with a slash."""
    entries = []
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            entries.append((f"{path.name}/", b"40000", path.name, _tree(path)))
        elif path.is_file() and path.suffix != ".pyc":
            entries.append((path.name, b"100644", path.name, _blob(path)))
    content = b"".join(mode + b" " + name.encode() + b"\0" + oid for _, mode, name, oid in sorted(entries))
    return _object_id("tree", content)


def code_ids(*paths: str) -> dict[str, str]:
    """Git object ids of the package's source files or folders, such as "cspipe/diffusion", shortened to 12 digits."""
    root = Path(__file__).parents[2]
    found = {path: root / path for path in paths}
    return {path: (_tree(file) if file.is_dir() else _blob(file)).hex()[:12] for path, file in found.items()}
