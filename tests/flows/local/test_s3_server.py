"""The S3 server on loopback: its own ports, its own secret, and objects that outlive it."""

import stat
from pathlib import Path

from flows.local import processes, s3_server
from tests.s3_server import S3, SECRET_KEY


def test_secret_is_in_a_file_for_its_owner_alone(s3: S3) -> None:
    config = s3.folder / "s3.json"
    assert SECRET_KEY in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert SECRET_KEY not in (s3.folder / "server.log").read_text()


def test_no_socket_file_is_left_of_a_killed_server(tmp_path: Path) -> None:
    server = S3(tmp_path)
    assert s3_server.sockets(tmp_path)
    processes.stop([server.part.process], grace=0)
    assert s3_server.remove_sockets(tmp_path) == []
