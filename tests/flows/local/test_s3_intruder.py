"""Another user of the machine, who knows each port of the S3 server and an object's place on its disk, but no key."""

import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cspipe.runtime.errors import UserError
from flows.local import certificate, processes, s3_server
from tests.s3_server import S3, SECRET_KEY

SECRET = b"nobody else reads or changes this"
REFUSED = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
WEED = str(Path(sys.executable).parent / "weed")


@pytest.fixture(scope="module")
def kept(s3: S3) -> Iterator[str]:
    """The bucket of an object that is there unchanged at the end."""
    bucket = s3.new_bucket()
    s3.client().put_object(Bucket=bucket, Key="object", Body=SECRET)
    yield bucket
    assert [entry["Key"] for entry in s3.client().list_objects_v2(Bucket=bucket)["Contents"]] == ["object"]
    assert s3.client().get_object(Bucket=bucket, Key="object")["Body"].read() == SECRET


def owner(s3: S3) -> ssl.SSLContext:
    """What only the server's owner can have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(s3.folder / certificate.PAIR)
    context.load_cert_chain(s3.folder / certificate.PAIR)
    return context


def stranger(folder: Path | None = None) -> ssl.SSLContext:
    """A client that trusts any server, without a certificate or with one of its own making."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if folder is not None:
        certificate.make(folder)
        context.load_cert_chain(folder / certificate.PAIR)
    return context


def answer(port: int, context: ssl.SSLContext | None) -> bytes:
    """What a port says to a request, over TLS or in plain; b"" if nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            line = plain if context is None else context.wrap_socket(plain, server_hostname="127.0.0.1")
            line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return line.recv(1000)
    except OSError:  # TLS's errors too
        return b""


def test_no_port_but_that_of_s3_serves_somebody_without_the_certificate(s3: S3, tmp_path: Path) -> None:
    """HTTP, gRPC and whatever else the process listens on. A gRPC server that talks in plain sends its settings."""
    assert s3.part.process is not None
    family = processes.running([s3.part.process])
    listening = [at for one in family for at in one.net_connections("tcp") if at.status == psutil.CONN_LISTEN]
    assert {at.laddr.ip for at in listening} == {"127.0.0.1"}
    ports = {at.laddr.port for at in listening} - {s3.port}
    assert len(ports) == 7
    for client in (None, stranger(), stranger(tmp_path)):
        assert {answer(port, client) for port in ports} <= {b"", REFUSED}
    assert answer(s3_server.read_ports(s3.folder)["filer"], owner(s3)).startswith(b"HTTP/1.1 200")


def test_no_file_or_socket_of_the_server_is_for_others(s3: S3) -> None:
    ports = s3_server.read_ports(s3.folder).values()
    sockets = [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port + 10000}.sock")]
    assert len(sockets) == 4
    assert set(s3_server.sockets(s3.folder)) == set(sockets)
    for path in (*sockets, s3.folder, s3.folder / "s3.json"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert SECRET_KEY in (s3.folder / "s3.json").read_text()
    assert SECRET_KEY not in (s3.folder / "server.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_socket_that_another_user_has_put_in_the_way_is_one_line() -> None:
    """In /tmp nobody but its owner can remove it."""
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are for their owner alone
        s3_server.prepare(folder := Path(name), "key", "secret")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody, nobody)
        planted = Path(f"/tmp/seaweedfs-master-grpc-{s3_server.read_ports(folder)['master'] + 10000}.sock")
        try:
            planted.touch()
            os.seteuid(nobody)
            with pytest.raises(UserError, match=f"^{planted}: "):
                s3_server.prepare(folder, "key", "secret")
        finally:
            os.seteuid(0)
            planted.unlink(missing_ok=True)


@pytest.mark.slow
def test_nobody_lists_reads_overwrites_or_deletes_over_http(s3: S3, kept: str) -> None:
    ports = s3_server.read_ports(s3.folder)
    filer, volume, master = (f"127.0.0.1:{ports[name]}" for name in ("filer", "volume", "master"))
    about = urllib.request.Request(f"https://{filer}/buckets/{kept}/object?metadata=true")
    place = json.load(urllib.request.urlopen(about, context=owner(s3), timeout=5))
    fids = [chunk["file_id"] for chunk in place.get("chunks", [])]
    assert fids, place
    attacks = [(method, f"{filer}/buckets/{kept}/object") for method in ("GET", "PUT", "POST", "DELETE")]
    attacks += [("GET", f"{filer}/buckets/{kept}/?pretty=y"), ("DELETE", f"{filer}/buckets?recursive=true")]
    attacks += [(method, f"{volume}/{fids[0]}") for method in ("GET", "PUT", "POST", "DELETE")]
    attacks += [("GET", f"{master}/{path}") for path in (
        f"dir/lookup?volumeId={fids[0]}", "dir/assign", f"col/delete?collection={kept}", "dir/status",
        f"vol/grow?collection={kept}&count=1", "vol/vacuum", f"{fids[0]}",
    )]  # fmt: skip
    for scheme in ("http", "https"):
        for method, address in attacks:
            body = b"altered" if method in ("PUT", "POST") else None
            attack = urllib.request.Request(f"{scheme}://{address}", body, method=method)
            with pytest.raises(OSError, match=r"400|SSL|TLS|reset|EOF|closed"):
                urllib.request.urlopen(attack, context=stranger() if scheme == "https" else None, timeout=5)


@pytest.mark.slow
def test_nobody_does_it_with_the_servers_own_program_over_grpc(s3: S3, kept: str, tmp_path: Path) -> None:
    """`weed` without the certificate: its shell, its copying, and a volume server of one's own that joins."""
    ports = s3_server.read_ports(s3.folder)
    at = {name: f"127.0.0.1:{port}.{port + 10000}" for name, port in ports.items()}
    (tmp_path / "object").write_bytes(b"altered")
    folder = f"/buckets/{kept}"
    lines = ("lock", f"fs.ls {folder}", f"fs.cat {folder}/object", f"fs.rm {folder}/object",
             f"collection.delete -collection={kept} -apply", "")  # fmt: skip
    url = f"http://127.0.0.1:{ports['filer']}{folder}"
    own = next(port for port in s3_server.PORT_RANGE if s3_server.is_free(port) and s3_server.is_free(port + 10000))
    commands = (
        ["shell", f"-master={at['master']}", f"-filer={at['filer']}"], ["filer.cat", f"{url}/object"],
        ["filer.copy", "object", f"{url}/"], ["volume", f"-mserver={at['master']}", "-ip=127.0.0.1", "-dir=.",
                                              f"-port={own}", f"-port.grpc={own + 10000}"],
    )  # fmt: skip
    running = [
        subprocess.Popen(
            ["timeout", "15", WEED, *command], cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for command in commands
    ]  # fmt: skip
    said = "\n".join(process.communicate("\n".join(lines))[0] for process in running)
    assert SECRET.decode() not in said
    assert "object" not in [line.strip() for line in said.splitlines()]
    status = urllib.request.urlopen(f"https://127.0.0.1:{ports['master']}/dir/status", context=owner(s3), timeout=5)
    assert f":{own}" not in status.read().decode()
    s3_server.remove_sockets(tmp_path)
