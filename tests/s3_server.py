"""A real S3 server for tests: the object that the `s3` fixture yields."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import boto3

from flows.local.s3_server import S3Server, start_s3

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-never-to-be-printed"


class S3:
    """The server with its credentials; `stop` and `start` make an outage, after which all objects are there again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._server: S3Server = start_s3(folder, None, ACCESS_KEY, SECRET_KEY)
        self.url, self.port = self._server.url, self._server.port

    @property
    def env(self) -> dict[str, str]:
        """The standard variables that boto3 and DVC read."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client of its own, whatever the environment says."""
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )  # fmt: skip

    def new_bucket(self) -> str:
        """Name of a new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def stop(self) -> None:
        """Begin an outage; nothing happens if it is one already."""
        if self._server.process.poll() is None:
            self._server.stop()

    def start(self) -> None:
        """End the outage: the same folder and port."""
        if self._server.process.poll() is not None:
            self._server = start_s3(self._folder, self.port, ACCESS_KEY, SECRET_KEY)
