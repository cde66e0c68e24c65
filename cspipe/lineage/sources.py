"""Where a file lies: on disk or in S3, read by the part, so that a model of gigabytes tells its origin at once."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.storage import QUICK
from cspipe.runtime.storage_errors import Missing, explained


class Source(Protocol):
    """A file that can be read by the part."""

    @property
    def name(self) -> str:
        """Path or address."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> str:
        """Of all bytes; may read them all."""

    def read(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`."""

    def sibling(self, name: str) -> Source:
        """The file at a path relative to this one's folder; it need not exist."""

    def exists(self) -> bool:
        """Whether there is such a file."""


class LocalFile:
    """A file on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Of all bytes."""
        return sha256_file(self.path)

    def read(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(count)

    def sibling(self, name: str) -> LocalFile:
        """The file at a path relative to this one's folder."""
        return LocalFile(self.path.parent / name)

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.path.is_file()


class S3Object:
    """An object in S3; endpoint and credentials are boto3's own. Reading raises StorageError."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name, self.bucket, self.key = url, parts.netloc, parts.path.lstrip("/")
        if parts.scheme != "s3" or not self.bucket or not self.key:
            raise UserError(f"{url!r}: not an address of the form s3://bucket/key")

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self._head["ContentLength"])

    @cached_property
    def sha256(self) -> str:
        """As stored with the object, else of all its bytes, read in constant memory."""
        if "sha256" in self._head["Metadata"]:
            return str(self._head["Metadata"]["sha256"])
        digest = hashlib.sha256()
        with self._errors():
            body = self._client.get_object(Bucket=self.bucket, Key=self.key)["Body"]
            for block in body.iter_chunks(2**20):
                digest.update(block)
        return digest.hexdigest()

    def read(self, start: int, count: int) -> bytes:
        """Up to `count` bytes from `start`."""
        last = min(start + count, self.size) - 1
        if last < start:
            return b""
        with self._errors():
            answer = self._client.get_object(Bucket=self.bucket, Key=self.key, Range=f"bytes={start}-{last}")
            return bytes(answer["Body"].read())

    def sibling(self, name: str) -> S3Object:
        """The object at a path relative to this one's folder."""
        parts = self.key.split("/")[:-1]
        for part in name.split("/"):
            parts = parts[:-1] if part == ".." else [*parts, part]
        return S3Object(f"s3://{self.bucket}/{'/'.join(parts)}")

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            return bool(self._head)
        except Missing:
            return False

    @cached_property
    def _head(self) -> dict[str, Any]:
        with self._errors():
            return dict(self._client.head_object(Bucket=self.bucket, Key=self.key))

    @cached_property
    def _client(self) -> Any:
        try:
            return boto3.client("s3", config=QUICK)
        except (BotoCoreError, ValueError) as error:
            raise UserError(f"{self.name}: no S3 client ({error}); see AWS_ENDPOINT_URL and AWS_REGION") from None

    def _errors(self) -> Any:
        return explained("read", self.name, self.bucket, self._client.meta.endpoint_url)


def open_source(target: str) -> Source:
    """A path or an s3:// address; a folder stands for the model or the samples in it.

    Raises UserError if nothing is there.
    """
    if "://" in target:
        source: Source = S3Object(target)
    else:
        path = Path(target)
        inside = (path / name for name in ("model.safetensors", "samples.npy"))
        source = LocalFile(next((file for file in inside if file.is_file()), path))
    if not source.exists():
        raise UserError(f"{target}: no such file; give a model, samples, metrics, or an s3:// address of one")
    return source
