"""Faults between us and a real S3 server, injected by a proxy: answers of a busy one."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cspipe.runtime.storage import Bucket
from tests.flows.server import end, free_port, wait_for
from tests.s3_server import S3

Faulty = Callable[[list[dict[str, Any]]], Any]


@pytest.fixture
def faulty(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """with faulty(rules) as (bucket, fired): a bucket behind the proxy, and how often a rule has fired."""

    @contextmanager
    def behind(rules: list[dict[str, Any]]) -> Iterator[tuple[Bucket, Callable[[], str]]]:
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": rules}))
        url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "microburst", "--upstream", s3.url, "--host", "127.0.0.1", "--port", str(port)]
        proxy = subprocess.Popen(
            [*command, "--resign", "--config", str(tmp_path / "rules.yaml")], env=os.environ | s3.env
        )
        try:
            wait_for(lambda: _asked(f"{url}/_microburst/fired") is not None, 30)
            for name, value in (s3.env | {"AWS_ENDPOINT_URL": url}).items():
                monkeypatch.setenv(name, value)
            yield Bucket(s3.new_bucket(), "x"), lambda: _asked(f"{url}/_microburst/fired") or ""
        finally:
            end([proxy])

    return behind


def _asked(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def test_a_busy_store_is_asked_again_by_an_upload(faulty: Faulty, s3: S3, tmp_path: Path) -> None:
    rule = {"service": "s3", "operation": "PutObject", "times": 2, "error": {"code": "SlowDown"}}
    (tmp_path / "a").write_bytes(b"state")
    with faulty([rule]) as (bucket, fired):
        bucket.put_file(tmp_path / "a", "a")
        assert fired().count("SlowDown") >= 2
    # Not through the proxy, which leaves out the length of what it passes on.
    assert s3.client().get_object(Bucket=bucket.bucket, Key="x/a")["Body"].read() == b"state"
