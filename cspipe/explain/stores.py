"""Where results already are: DVC's cache here, its remote, and the run cache of either."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import parse_yaml
from dvc_data.hashfile import check, load
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError

from cspipe.runtime.storage import DVC_REMOTE


class Stores:
    """The local cache of a DVC project and, asked only if something is missing in it, its default remote."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.trouble = ""
        """Why the remote could not be asked, in one line; empty if it was not needed or answered."""
        self._sizes: dict[str, int | None] = {}
        url = os.environ.get("CSPIPE_S3")
        if url and not repo.config["core"].get("remote"):
            repo.config["remote"][DVC_REMOTE] = {"url": f"{url.rstrip('/')}/dvc"}
            repo.config["core"]["remote"] = DVC_REMOTE

    def here(self, outputs: Iterable[HashInfo]) -> bool:
        """Whether the local cache has every file of these outputs (files or folders)."""
        return all(self._here(output) for output in outputs)

    def _here(self, output: HashInfo) -> bool:
        cache = self.repo.cache.local
        try:
            check(cache, load(cache, output))
        except (FileNotFoundError, ObjectFormatError):
            return False
        return True

    def tree(self, folder: HashInfo) -> Tree | None:
        """The list of a folder's files, from the cache or the remote, or None if neither has it."""
        for odb in filter(None, (self.repo.cache.local, self._remote("md5"))):
            try:
                return Tree.load(odb, folder)
            except ObjectFormatError:
                continue
            except (OSError, BotoCoreError, ClientError) as error:
                if not isinstance(error, FileNotFoundError):
                    self._failed(error)
        return None

    def bytes_to_pull(self, outputs: Iterable[HashInfo]) -> int | None:
        """Bytes of these outputs that are on the remote and not here; None if the remote lacks one of their files."""
        total = 0
        for output in outputs:
            files = {str(output.value)}
            if output.isdir:
                tree = self.tree(output)
                if tree is None:
                    return None
                files |= {str(entry.value) for _, _, entry in tree}
            missing = {oid for oid in files if not self.repo.cache.local.exists(oid)}
            sizes = self._remote_sizes(missing)
            if None in sizes.values():
                return None
            total += sum(size or 0 for size in sizes.values())
        return total

    def run(self, key: str) -> Mapping[str, Any] | None:
        """The newest entry of the run cache, here or on the remote, for a stage's key."""
        for odb in filter(None, (self.repo.cache.legacy, self._remote("md5-dos2unix"))):
            folder = odb.fs.join(odb.path, "runs", key[:2], key)
            try:
                names = odb.fs.find(folder) if odb.fs.exists(folder) else []
                if names:
                    newest = max(names, key=lambda name: _written(odb.fs.info(name)))
                    text = odb.fs.open(newest, encoding="utf-8").read()
                    return dict(parse_yaml(text, newest))
            except (OSError, BotoCoreError, ClientError) as error:
                self._failed(error)
        return None

    def _remote_sizes(self, oids: set[str]) -> dict[str, int | None]:
        """Bytes of objects on the remote; None for one that it lacks, all None if it cannot be asked."""
        unknown = sorted(oids - self._sizes.keys())
        odb = self._remote("md5") if unknown else None
        if odb is not None:
            try:
                found = odb.fs.info([odb.oid_to_path(oid) for oid in unknown], return_exceptions=True)
            except (OSError, BotoCoreError, ClientError) as error:
                found = [error] * len(unknown)
            for oid, info in zip(unknown, found, strict=True):
                if isinstance(info, Exception) and not isinstance(info, FileNotFoundError):
                    self._failed(info)
                self._sizes[oid] = None if isinstance(info, Exception) else int(info["size"])
        return {oid: self._sizes.get(oid) for oid in oids}

    def _remote(self, hash_name: str) -> Any:
        """The remote's objects, or None if there is no remote or it failed before."""
        if self.trouble:
            return None
        try:
            return self.repo.cloud.get_remote_odb(None, "explain", hash_name=hash_name)
        except NoRemoteError:
            return None
        except DvcException as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        self.trouble = f"the remote could not be asked: {reason}"


def _written(info: Mapping[str, Any]) -> str:
    """When a file of the run cache was written, comparable within one store."""
    return str(info.get("mtime") or info.get("LastModified") or "")
