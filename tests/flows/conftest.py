"""Clones in which flows run, and a Prefect server for flows that are called in the test's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from tests.conftest import ROOT
from tests.flows.machines import write_preset
from tests.stages.conftest import finished, new_clone, two_variants  # noqa: F401 (fixtures, for the tests here too)


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """A real Prefect server with a database of its own."""
    with temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}), prefect_test_harness(120):
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
