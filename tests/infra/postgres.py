"""A Postgres cluster of one's own on loopback, for as long as a test needs it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.flows.server import free_port
from tests.infra.conftest import INFRA

PASSWORD = "for-this-test-alone"


def binaries() -> Path | None:
    """Folder of `initdb` and `pg_ctl`, of the newest version that is installed; None without one."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass(frozen=True)
class Postgres:
    """A running cluster with an empty database `prefect`, prepared as in compose.yaml."""

    bin: Path
    port: int

    @property
    def url(self) -> str:
        """For PREFECT_API_DATABASE_CONNECTION_URL."""
        return f"postgresql+asyncpg://prefect:{PASSWORD}@127.0.0.1:{self.port}/prefect"

    def query(self, sql: str) -> str:
        """What psql prints for a statement or a file's content, without headings."""
        address = f"postgresql://prefect:{PASSWORD}@127.0.0.1:{self.port}/prefect"
        command = [self.bin / "psql", address, "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", sql]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running_postgres(bin: Path) -> Iterator[Postgres]:
    """Start a cluster in a temporary folder; stop and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cspipe-postgres-"))  # not in pytest's folder, which is root's alone
    port = free_port()
    try:
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres")
        _run(bin / "initdb", f"--pgdata={folder}/data", "--username=prefect", "--auth=scram-sha-256",
             f"--pwfile={folder}/password", "--no-sync")  # fmt: skip
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        _run(bin / "pg_ctl", "start", f"--pgdata={folder}/data", f"--log={folder}/log", f"--options={options}")
        try:
            cluster = Postgres(bin, port)
            subprocess.run(
                [bin / "createdb", f"--host={folder}", f"--port={port}", "--username=prefect", "prefect"],
                env={**os.environ, "PGPASSWORD": PASSWORD}, check=True,
            )  # fmt: skip
            cluster.query((INFRA / "kubernetes" / "pg_trgm.sql").read_text())
            yield cluster
        finally:
            _run(bin / "pg_ctl", "stop", "--mode=immediate", f"--pgdata={folder}/data")
    finally:
        shutil.rmtree(folder)


def _run(*command: str | Path) -> None:
    """Run a server program, which refuses to be root's, as the user `postgres` if this is root."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, *command], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert done.returncode == 0, command
