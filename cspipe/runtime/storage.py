"""Objects in S3: checked before use, verified after an upload, changed under a condition."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.storage_errors import (
    Damaged,
    Lost,
    Missing,
    StorageError,
    Unreachable,
    code_of,
    explained,
    status_of,
)

PART_BYTES = 16 * 2**20
"""Size of the parts of an upload; S3 allows 10,000 of them, so files up to 160 GiB."""
PATIENT = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 10})
"""Retries with growing pauses, a minute in all: an outage of 20 seconds is ridden out."""
QUICK = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
# One stream: a thread pool would keep a process that has to end waiting for the transfer.
UPLOAD = TransferConfig(
    multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False,
    preferred_transfer_client="classic",
)  # fmt: skip
DOWNLOAD = TransferConfig(preferred_transfer_client="classic")


@dataclass(frozen=True)
class Bucket:
    """The objects under s3://`bucket`/`prefix`; keys are relative to it. Endpoint and credentials are boto3's own."""

    bucket: str
    prefix: str

    @classmethod
    def from_url(cls, url: str) -> Bucket:
        """From "s3://bucket/prefix", the prefix may be empty. Raises UserError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise UserError(f"CSPIPE_S3: {url!r} is not an address of the form s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"))

    @property
    def url(self) -> str:
        """The address this was made from."""
        return f"s3://{self._path('')}".rstrip("/")

    def check(self) -> None:
        """List, write and delete, all within seconds. Raises StorageError that says what is wrong and what to do."""
        client, probe = self._client(QUICK), ".check"
        with self._errors("list", ""):
            client.list_objects_v2(Bucket=self.bucket, Prefix=self._path("")[len(self.bucket) + 1 :], MaxKeys=1)
        with self._errors("write", probe):
            client.put_object(Bucket=self.bucket, Key=self._key(probe), Body=b"")
        with self._errors("delete", probe):
            client.delete_object(Bucket=self.bucket, Key=self._key(probe))

    def put_file(self, path: Path, key: str) -> str:
        """Upload a file, make sure that S3 has its bytes, and return their sha256.

        S3's ETag is compared with the MD5 of the parts' MD5s; where it is something else (KMS) the object is read
        back. Raises Damaged, with the object deleted, if S3 has other bytes, and StorageError if it fails.
        """
        sha256, expected = _digests(path)
        extra = {"Metadata": {"sha256": sha256}}
        with self._errors("write", key):
            self._s3.upload_file(str(path), self.bucket, self._key(key), ExtraArgs=extra, Config=UPLOAD)
            etag = self._s3.head_object(Bucket=self.bucket, Key=self._key(key))["ETag"].strip('"')
            if etag == expected or self._stored_sha256(key) == sha256:
                return sha256
            self._s3.delete_object(Bucket=self.bucket, Key=self._key(key))
        raise Damaged(f"{self._place(key)}: the upload of {path} arrived with other bytes and was deleted; try again")

    def get_file(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Download to beside `path`, compare with sha256 (None: the one that `put_file` stored), then rename.

        Raises Missing, Damaged (nothing is left at `path`), or StorageError if it fails.
        """
        with whole_file(path) as beside:
            with self._errors("read", key):
                head = self._s3.head_object(Bucket=self.bucket, Key=self._key(key))
                self._s3.download_file(self.bucket, self._key(key), str(beside), Config=DOWNLOAD)
            expected = sha256 or head["Metadata"].get("sha256")
            if expected is not None and sha256_file(beside) != expected:
                raise Damaged(f"{self._place(key)}: its content does not match its sha256; it was not used")

    def put_json(self, key: str, value: Any, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Store a value and return its etag; on a condition: the object still has the etag, or there is none yet.

        Raises Lost if the condition does not hold.
        """
        condition = {"IfMatch": if_match} if if_match is not None else {"IfNoneMatch": "*"} if if_absent else {}
        body = json.dumps(value, sort_keys=True).encode()
        with self._errors("write", key):
            try:
                answer = self._s3.put_object(
                    Bucket=self.bucket, Key=self._key(key), Body=body, ContentType="application/json", **condition
                )
            except ClientError as error:
                # 409: another conditional write is under way; 404: the object to match is gone
                if condition and status_of(error) in (404, 409, 412) and code_of(error) != "NoSuchBucket":
                    raise Lost(f"{self._place(key)}: someone else has written it since") from None
                raise
        return str(answer["ETag"])

    def get_json(self, key: str) -> tuple[Any, str] | None:
        """(value, etag), or None if there is no such object. Raises Damaged if it is not JSON."""
        try:
            with self._errors("read", key):
                answer = self._s3.get_object(Bucket=self.bucket, Key=self._key(key))
                body = answer["Body"].read()
        except Missing:
            return None
        try:
            return json.loads(body), str(answer["ETag"])
        except ValueError:
            raise Damaged(f"{self._place(key)}: not JSON; delete it if nobody needs it") from None

    def delete(self, key: str) -> None:
        """Delete an object; it does not matter whether there is one."""
        with self._errors("delete", key):
            self._s3.delete_object(Bucket=self.bucket, Key=self._key(key))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, in order."""
        start = self._key(prefix)
        with self._errors("list", prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start):
                for entry in page.get("Contents", []):
                    yield entry["Key"][len(self._key("")) :]

    def watch(self, tell: Callable[[Unreachable], None]) -> None:
        """From now on call `tell` when S3 is away: seconds after it went, long before an operation gives up.

        That is at every failed attempt but the first, which many are, unless it timed out; in the operation's thread.
        """

        def look(response: Any, operation: Any, attempts: int, caught_exception: Exception | None, **_: Any) -> None:
            """Botocore's, after each attempt; to answer nothing leaves the retries to it."""
            if attempts == 1 and not isinstance(caught_exception, ConnectTimeoutError | ReadTimeoutError):
                return
            try:
                with self._errors("use", ""):
                    if caught_exception is not None:
                        raise caught_exception
                    if "Error" in response[1]:
                        raise ClientError(response[1], operation.name)
            except Unreachable as error:
                tell(error)
            except StorageError:
                pass  # an answer, which the operation raises

        self._s3.meta.events.register("needs-retry.s3", look)

    @cached_property
    def _s3(self) -> Any:
        return self._client(PATIENT)

    def _client(self, config: Config) -> Any:
        try:
            # A session of its own: boto3's shared one is not for threads. It reads AWS_DEFAULT_REGION alone.
            return boto3.Session(region_name=os.environ.get("AWS_REGION")).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"{self.url}: no S3 client ({error}); see AWS_ENDPOINT_URL and AWS_REGION") from None

    def _path(self, key: str) -> str:
        return "/".join(filter(None, (self.bucket, self.prefix))) + f"/{key}"

    def _key(self, key: str) -> str:
        return self._path(key).partition("/")[2]

    def _place(self, key: str) -> str:
        return f"s3://{self._path(key)}"

    def _stored_sha256(self, key: str) -> str:
        """Sha256 of what S3 has, read back in constant memory."""
        digest = hashlib.sha256()
        for block in self._s3.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].iter_chunks(2**20):
            digest.update(block)
        return digest.hexdigest()

    def _errors(self, action: str, key: str) -> AbstractContextManager[None]:
        return explained(action, self._place(key), self.bucket, self._s3.meta.endpoint_url)


def _digests(path: Path) -> tuple[str, str]:
    """(sha256, ETag that S3 gives an upload in our parts) of a file, in one pass and the memory of a part."""
    sha256, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            sha256.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    if path.stat().st_size < PART_BYTES:
        return sha256.hexdigest(), (parts[0] if parts else hashlib.md5(b"", usedforsecurity=False).digest()).hex()
    whole = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return sha256.hexdigest(), f"{whole}-{len(parts)}"
