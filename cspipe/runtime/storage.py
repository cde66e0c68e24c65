"""Objects in S3: access is checked before use, content is verified by checksums, writes can be conditional."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.storage_errors import Damaged, Lost, Missing, StorageError, as_storage_errors

DVC_REMOTE = "cspipe-s3"
"""Name of the bucket as DVC's remote, where this project's programs configure it."""
PATIENT = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 10})
"""Retries with growing pauses, a minute in all: an outage of 20 seconds raises no error."""
QUICK = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
# One stream: a thread pool would keep a process that has to end waiting for the transfer.
TRANSFER = TransferConfig(use_threads=False, preferred_transfer_client="classic")


@dataclass(frozen=True)
class Bucket:
    """The objects under s3://`bucket`/`prefix`; keys are relative to it. Endpoint and credentials are boto3's own.

    `config` says how long operations are tried before they raise Unreachable.
    """

    bucket: str
    prefix: str
    config: Config = field(default=PATIENT, repr=False, compare=False)

    @classmethod
    def from_url(cls, url: str) -> Bucket:
        """Create it from "s3://bucket/prefix", where the prefix may be empty. Raises UserError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise UserError(f"CSPIPE_S3: {url!r} is not an address of the form s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"))

    @property
    def url(self) -> str:
        """Address of the bucket and prefix, as `from_url` takes it."""
        return self._place("").rstrip("/")

    def check(self) -> None:
        """Try to list, write and delete, within seconds. Raises StorageError that says what is wrong and what to do."""
        quick = replace(self, config=QUICK)
        next(quick.list(), None)
        quick.put_json(".check", None)
        quick.delete(".check")

    def put_file(self, path: Path, key: str) -> str:
        """Upload a file and return its sha256, which is stored in the object's metadata too.

        S3 compares each part with its checksum and refuses other bytes. Raises StorageError if the upload fails.
        """
        sha256 = sha256_file(path)
        extra = {"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "CRC32"}
        with self._errors("write", key):
            self.client.upload_file(str(path), self.bucket, self._key(key), ExtraArgs=extra, Config=TRANSFER)
        return sha256

    def get_file(self, key: str, path: Path) -> None:
        """Download an object to a temporary file, then rename it to `path`. Raises Missing, or another StorageError."""
        with whole_file(path) as beside, self._errors("read", key):
            self.client.download_file(self.bucket, self._key(key), str(beside), Config=TRANSFER)

    def put_json(self, key: str, value: Any, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Store a value as JSON and return the object's etag.

        if_match: store only if the object still has this etag; if_absent: only if there is no object yet. Raises Lost
        if the condition does not hold.
        """
        condition = {"IfMatch": if_match} if if_match is not None else {"IfNoneMatch": "*"} if if_absent else {}
        body = json.dumps(value, sort_keys=True).encode()
        content = {"Body": body, "ContentType": "application/json", "Metadata": _seal(body)}
        try:
            with self._errors("write", key):
                answer = self.client.put_object(Bucket=self.bucket, Key=self._key(key), **content, **condition)
                return str(answer["ETag"])
        except Missing:
            raise Lost(f"{self._place(key)}: someone else has deleted it since") from None

    def get_json(self, key: str, *, sealed: bool = True) -> tuple[Any, str] | None:
        """Read (value, etag); None if there is no such object. Raises Damaged if it is not as `put_json` stored it.

        sealed: False for an object that was not stored by `put_json`; it only has to be JSON.
        """
        try:
            with self._errors("read", key):
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
                body = answer["Body"].read()
            if sealed and answer["Metadata"] != _seal(body):
                raise Damaged(f"{self._place(key)}: altered since it was stored; delete it if nobody needs it")
            return json.loads(body), str(answer["ETag"])
        except Missing:
            return None
        except ValueError:
            raise Damaged(f"{self._place(key)}: not JSON; delete it if nobody needs it") from None

    def delete(self, key: str) -> None:
        """Delete an object; no error if there is none."""
        with self._errors("delete", key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that start with `prefix`, in order."""
        with self._errors("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            for page in pages:
                yield from (entry["Key"].removeprefix(self._key("")) for entry in page.get("Contents", []))

    @cached_property
    def client(self) -> Any:
        """Boto3's client for S3. Raises StorageError if it cannot be made from the environment."""
        try:
            # A session of its own: boto3's default one is not thread-safe. Boto3 itself reads only AWS_DEFAULT_REGION.
            return boto3.Session(region_name=os.environ.get("AWS_REGION")).client("s3", config=self.config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"{self.url}: no S3 client ({error}); see AWS_ENDPOINT_URL and AWS_REGION") from None

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _place(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def _errors(self, action: str, key: str) -> AbstractContextManager[None]:
        return as_storage_errors(action, self._place(key), self.bucket, self.client.meta.endpoint_url)


def _seal(body: bytes) -> dict[str, str]:
    """Metadata that identify an object's content: its sha256."""
    return {"sha256": hashlib.sha256(body).hexdigest()}
