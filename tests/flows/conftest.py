"""Clones in which flows run, and a Prefect server for flows that are called in the test's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client

from tests.conftest import ROOT
from tests.flows.machines import write_preset
from tests.flows.server import prefect_server
from tests.stages.conftest import finished, new_clone, two_variants  # noqa: F401 (fixtures, for the tests here too)


@pytest.fixture(scope="package")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Prefect server, which flows and clients of this process use.

    It ends with the tests of this folder: idle, a server takes a tenth of a core.
    """
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server, server.client():
        yield


@pytest.fixture
def client(prefect: None) -> Iterator[SyncPrefectClient]:
    """A client of that server."""
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def flow_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of the project as it is, one commit, in which flows run."""
    folder = tmp_path / "clone"
    folder.mkdir()
    new_clone(folder, yaml.safe_load((ROOT / "params.yaml").read_text()))
    write_preset(folder)
    monkeypatch.setenv("CSPIPE_HOME", str(folder))
    monkeypatch.delenv("CSPIPE_S3", raising=False)
    return folder
