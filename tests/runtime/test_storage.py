"""Objects in a real S3 server: verified uploads, conditional writes, and errors that say what to do."""

import json
import threading
from pathlib import Path

import pytest
from botocore.exceptions import FlexibleChecksumError

from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged, Lost, Missing, StorageError, Unreachable, as_storage_errors
from tests.s3_server import ACCESS_KEY, S3, SECRET_KEY

PART_BYTES = 8 * 2**20
"""Size of the parts that boto3 sends a large file in."""


@pytest.mark.parametrize("size", [0, 1000, 2 * PART_BYTES + 5])
def test_file_comes_back_as_it_was(bucket: Bucket, s3: S3, tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    sha256 = bucket.put_file(tmp_path / "a", "folder/a")
    bucket.get_file("folder/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    stored = s3.client().head_object(Bucket=bucket.bucket, Key="prefix/folder/a", ChecksumMode="ENABLED")
    assert stored["Metadata"] == {"sha256": sha256}
    assert stored["ChecksumCRC32"], "the server compared what came with a checksum"
    bucket.delete("folder/a")
    assert list(bucket.list()) == []
    with pytest.raises(Missing, match=r"no object .* s3://bucket-.*/prefix/folder/a"):
        bucket.get_file("folder/a", tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_upload_that_arrives_with_other_bytes_is_refused(bucket: Bucket, s3: S3, tmp_path: Path) -> None:
    """The checksum that goes with them is that of the bytes before the damage."""
    (tmp_path / "a").write_bytes(b"hello")
    other_bytes = {"ChecksumCRC32": "AAAAAA=="}
    bucket.client.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: {**params, **other_bytes}
    )
    with pytest.raises(StorageError, match=r"cannot write s3://.*/prefix/a .*BadDigest"):
        bucket.put_file(tmp_path / "a", "a")
    assert list(bucket.list()) == []


def test_conditional_writes(bucket: Bucket) -> None:
    assert bucket.get_json("v") is None
    first = bucket.put_json("v", {"n": 1}, if_absent=True)
    with pytest.raises(Lost, match="someone else has written it"):
        bucket.put_json("v", {"n": 2}, if_absent=True)
    second = bucket.put_json("v", {"n": 2}, if_match=first)
    with pytest.raises(Lost):
        bucket.put_json("v", {"n": 3}, if_match=first)
    assert bucket.get_json("v") == ({"n": 2}, second)
    bucket.delete("v")
    with pytest.raises(Lost):
        bucket.put_json("v", {"n": 3}, if_match=second)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_value_that_somebody_altered_is_refused_by_name(bucket: Bucket, s3: S3, keeps: bool) -> None:
    """Hand-overs, progress, manifests, lineage, nights: all are such values. `keeps`: the object's metadata."""
    bucket.put_json("v", {"n": 1})
    place = {"Bucket": bucket.bucket, "Key": f"{bucket.prefix}/v"}
    metadata = s3.client().head_object(**place)["Metadata"] if keeps else {}
    s3.client().put_object(**place, Body=b'{"n": 2}', Metadata=metadata)
    with pytest.raises(Damaged, match=r"s3://.*/prefix/v: .*delete it"):
        bucket.get_json("v")
    assert bucket.get_json("v", sealed=False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AWS_ENDPOINT_URL": "http://user:endpoint-password@127.0.0.1:9"}, "http://127.0.0.1:9 is unreachable"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "wrong credentials .* AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no credentials .* AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "not an address"}, "no S3 client .* AWS_ENDPOINT_URL"),
    ],
)
def test_check_says_what_is_wrong(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], expected: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=expected) as error:
        Bucket(bucket.bucket, bucket.prefix).check()
    message = str(error.value)
    assert "\n" not in message
    assert not [secret for secret in (ACCESS_KEY, SECRET_KEY, "endpoint-password") if secret in message]
    assert error.value.__cause__ is None  # no traceback of boto3's under it, with its request in it
    assert isinstance(error.value, Unreachable) == ("unreachable" in expected)


def test_missing_permission_is_named(s3: S3, bucket: Bucket) -> None:
    every = f"arn:aws:s3:::{bucket.bucket}/*"
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": every}
    s3.client().put_bucket_policy(
        Bucket=bucket.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    )
    with pytest.raises(StorageError, match=r"no permission to write s3://.*/prefix/\.check; allow it"):
        bucket.check()


@pytest.mark.slow
def test_outage_of_20_seconds_is_ridden_out(s3: S3, bucket: Bucket, tmp_path: Path) -> None:
    """Takes 20 to 60 seconds."""
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    bucket.put_json("before", 1)
    s3.stop()
    end = threading.Timer(18, s3.start)  # a start takes some seconds more
    end.start()
    try:
        bucket.put_file(tmp_path / "a", "a")
    finally:
        end.join()
    bucket.get_file("a", tmp_path / "b")


def test_bytes_that_arrive_with_another_checksum_are_damaged() -> None:
    altered = pytest.raises(Damaged, match="cannot read s3://b/a: altered since it was stored")
    with altered, as_storage_errors("read", "s3://b/a", "b", "http://localhost"):
        raise FlexibleChecksumError(error_msg="Expected checksum AAAAAA== did not match")
