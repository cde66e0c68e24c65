"""Objects in S3: checked before use, verified by checksums, changed under a condition."""

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
from cspipe.runtime.storage_errors import Damaged, Lost, Missing, StorageError, explained

DVC_REMOTE = "cspipe-s3"
"""DVC's name of the bucket, where a program sets it as its remote."""
PATIENT = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 10})
"""Retries with growing pauses, a minute in all: an outage of 20 seconds is ridden out."""
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
        """From "s3://bucket/prefix", the prefix may be empty. Raises UserError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise UserError(f"CSPIPE_S3: {url!r} is not an address of the form s3://bucket/prefix")
        return cls(parts.netloc, parts.path.strip("/"))

    @property
    def url(self) -> str:
        """The address this was made from."""
        return self._place("").rstrip("/")

    def check(self) -> None:
        """List, write and delete, all within seconds. Raises StorageError that says what is wrong and what to do."""
        quick = replace(self, config=QUICK)
        next(quick.list(), None)
        quick.put_json(".check", None)
        quick.delete(".check")

    def put_file(self, path: Path, key: str) -> str:
        """Upload a file and return its sha256, which the object's metadata hold too.

        S3 compares each part with its checksum and refuses other bytes. Raises StorageError if it fails.
        """
        sha256 = sha256_file(path)
        extra = {"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "CRC32"}
        with self._errors("write", key):
            self.client.upload_file(str(path), self.bucket, self._key(key), ExtraArgs=extra, Config=TRANSFER)
        return sha256

    def get_file(self, key: str, path: Path) -> None:
        """Download to beside `path`, then rename. Raises Missing, or StorageError if it fails."""
        with whole_file(path) as beside, self._errors("read", key):
            self.client.download_file(self.bucket, self._key(key), str(beside), Config=TRANSFER)

    def put_json(self, key: str, value: Any, *, if_match: str | None = None, if_absent: bool = False) -> str:
        """Store a value and return its etag; on a condition: the object still has the etag, or there is none yet.

        Raises Lost if the condition does not hold.
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
        """(value, etag), or None if there is no such object. Raises Damaged if it is not as `put_json` stored it.

        sealed: False for an object that something else stored; it has only to be JSON.
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
        """Delete an object; it does not matter whether there is one."""
        with self._errors("delete", key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, in order."""
        with self._errors("list", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
            for page in pages:
                yield from (entry["Key"].removeprefix(self._key("")) for entry in page.get("Contents", []))

    @cached_property
    def client(self) -> Any:
        """Boto3's client. Raises StorageError if the environment allows none."""
        try:
            # A session of its own: boto3's shared one is not for threads. It reads AWS_DEFAULT_REGION alone.
            return boto3.Session(region_name=os.environ.get("AWS_REGION")).client("s3", config=self.config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"{self.url}: no S3 client ({error}); see AWS_ENDPOINT_URL and AWS_REGION") from None

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _place(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._key(key)}"

    def _errors(self, action: str, key: str) -> AbstractContextManager[None]:
        return explained(action, self._place(key), self.bucket, self.client.meta.endpoint_url)


def _seal(body: bytes) -> dict[str, str]:
    """The metadata by which an object's content is known again."""
    return {"sha256": hashlib.sha256(body).hexdigest()}
