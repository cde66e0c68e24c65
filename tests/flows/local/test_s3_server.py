"""The S3 server on loopback: its own ports, its own secret, and objects that outlive it."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import botocore.exceptions
import pytest

from cspipe.runtime.errors import UserError
from flows.local import processes, s3_server
from tests.s3_server import S3, SECRET_KEY


def test_objects_outlive_a_stop(s3: S3) -> None:
    bucket = s3.new_bucket()
    s3.client().put_object(Bucket=bucket, Key="a/b", Body=b"kept")
    s3.stop()
    try:
        with pytest.raises(OSError, match=r"."), socket.create_connection(("127.0.0.1", s3.port), timeout=1):
            pass
    finally:
        s3.start()
    assert s3.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"kept"


def test_another_secret_is_refused(s3: S3) -> None:
    client = s3.client()
    client._request_signer._credentials.secret_key = "wrong"
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client.list_buckets()


def test_secret_is_in_a_file_for_its_owner_alone(s3: S3) -> None:
    config = s3._folder / "s3.json"
    assert SECRET_KEY in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert SECRET_KEY not in (s3._folder / "server.log").read_text()


def test_taken_port_is_named(s3: S3) -> None:
    with pytest.raises(UserError, match=r"port \d+ of 127\.0\.0\.1 is taken"):
        s3_server.prepare(s3._folder, "a", "b")


def test_no_socket_file_is_left_of_a_killed_server(tmp_path: Path) -> None:
    server = S3(tmp_path)
    numbers = [number for port in s3_server.read_ports(tmp_path).values() for number in (port, port + 10000)]

    def left() -> list[Path]:
        return [path for number in numbers for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock")]

    assert left()
    processes.stop([server._part.process], grace=0)
    s3_server.remove_sockets(tmp_path)
    assert not left()
