"""Fixtures that several folders of tests share."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.registry import find

if TYPE_CHECKING:
    from cspipe.runtime.storage import Bucket
    from tests.s3_server import S3

SHIPPED = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())["data"]
FOLDER = "states/train/key"
Machine = Callable[..., Checkpoints]


def imported(file: Path) -> set[str]:
    """Modules that a file of Python imports, and what it takes from them, by dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULES[request.param](100)


@pytest.fixture
def x0() -> Tensor:
    """Images (8, 3, 4, 4) in [-1, 1]."""
    return torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


@pytest.fixture
def e() -> Tensor:
    return torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def stir() -> Callable[[nn.Module], nn.Module]:
    """Move every parameter a little off its start, so that branches which start at 0 act."""

    def apply(net: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return net

    return apply


@pytest.fixture
def pipe_at() -> Iterator[Callable[[Path], None]]:
    """Put a pipe in the place of a file, which nobody may read: others would wait for a writer. This one has one."""
    made: list[tuple[Path, Thread]] = []
    read: list[Path] = []

    def write(file: Path, content: bytes) -> None:
        with suppress(BrokenPipeError), file.open("wb") as pipe:  # waits for a reader
            read.append(file)
            pipe.write(content)

    def make(file: Path) -> None:
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        made.append((file, Thread(target=write, args=(file, content))))
        made[-1][1].start()

    yield make
    found = list(read)
    for file, writer in made:
        reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        while writer.is_alive():
            with suppress(BlockingIOError):
                os.read(reader, 2**20)
            writer.join(0.01)
        os.close(reader)
    assert not found


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    from cspipe.runtime.storage import Bucket  # boto3, which tests/gpu does without

    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3.new_bucket(), "prefix")


@pytest.fixture
def machine(bucket: Bucket, tmp_path: Path) -> Machine:
    """machine("a", run, sleep): the run's states on a machine, which shares nothing but the bucket with the others.

    Waiting for an owner takes no time; what happens meanwhile is up to `sleep`.
    """
    from cspipe.runtime.mirror import Mirror
    from cspipe.runtime.storage import Bucket

    def make(name: str, run: str | None = None, sleep: Callable[[float], None] = lambda seconds: None) -> Checkpoints:
        own = Bucket(bucket.bucket, bucket.prefix, bucket.config)
        return Checkpoints(tmp_path / name, "key", Mirror(own, FOLDER, run, sleep))

    return make


@pytest.fixture
def settings() -> Callable[..., DataSettings]:
    """Make a data section: settings(source="folder", path=..., style=..., paired=...)."""

    def make(style: str = "pixel-art", paired: str = "none", **values: Any) -> DataSettings:
        avatars = {"style": style, "paired": paired}
        source = values.get("source", "avatars")
        if source != "avatars":
            values.setdefault("limit", None)
        if find(SOURCES, source, "OFFICIAL_SPLIT"):
            values.setdefault("held_out", "official")
        return DataSettings.model_validate({**SHIPPED, "limit": 40, "held_out": 0.25, **values, "avatars": avatars})

    return make
