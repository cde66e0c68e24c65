"""A real S3 server for tests: the object that the `s3` fixture yields."""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import boto3

from flows.local import processes, s3_server
from flows.local.processes import Part, Program

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-never-to-be-printed"


class S3:
    """The server with its credentials; `stop` and `start` make an outage, after which all objects are there again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        self.part = Part("s3", 0, 0.0)
        self.start()
        ports = s3_server.read_ports(folder)
        self.url, self.port = s3_server.endpoint(ports), ports["s3"]

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
        name = f"bucket-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def stop(self) -> None:
        """Begin an outage; nothing happens if it is one already."""
        processes.stop([self.part.process], grace=0)  # it would wait 15 s for its connections to end
        assert s3_server.remove_sockets(self.folder) == []

    def start(self) -> None:
        """End the outage, in the same folder and on the same port; nothing happens if there is none."""
        if self.part.process is not None:
            return
        ports = s3_server.prepare(self.folder, ACCESS_KEY, SECRET_KEY)
        program = Program("s3", s3_server.command(self.folder, ports), self.folder, os.environ)
        self.part = processes.start(program, self.folder / "server.log")
        patience = time.monotonic() + 60
        while not s3_server.ready(self.folder):
            assert self.part.process is not None, processes.tail(self.folder / "server.log")
            assert time.monotonic() < patience, processes.tail(self.folder / "server.log")
            time.sleep(0.2)
