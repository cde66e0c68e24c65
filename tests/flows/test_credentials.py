"""Credentials from a Secret block of a real server, where the environment has none."""

import pytest
from prefect.blocks.system import Secret

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from flows.credentials import BLOCK, take_from_block
from flows.workspace import shared_bucket
from tests.s3_server import ACCESS_KEY, SECRET_KEY

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture(autouse=True)
def _environment(prefect: None, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that knows where S3 is, without credentials."""
    for name in KEYS:  # they are set, so what the block puts there is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("CSPIPE_S3", bucket.url)


def test_a_block_lets_the_worker_use_the_bucket() -> None:
    Secret(value=KEYS).save(BLOCK, overwrite=True)
    assert shared_bucket(print, 0) is not None


def test_a_block_of_something_else_is_told_without_its_value() -> None:
    Secret(value="hunter2-in-plain").save(BLOCK, overwrite=True)
    with pytest.raises(UserError, match="must be a JSON object of AWS_ variables") as error:
        take_from_block()
    assert "hunter2" not in str(error.value)
