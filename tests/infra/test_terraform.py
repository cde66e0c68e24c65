"""terraform/: parsed as HCL and its protections checked; the worker's policy judged by an IAM implementation."""

from __future__ import annotations

import json
import re
import shutil
import string
import subprocess
from typing import Any

import hcl2
import pytest

from tests.infra.conftest import INFRA, Tree

FOLDER = INFRA / "terraform"
PLACE = {"bucket": "some-bucket", "prefix": "some/prefix"}


def plain(tree: Any) -> Any:
    """The parser's tree without quotes and marks; a block that stands once in place of a list of one."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items() if not key.startswith("__")}
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    return tree.strip('"') if isinstance(tree, str) else tree


@pytest.fixture(scope="module")
def resources() -> Tree:
    """Bodies of main.tf's resources by type."""
    with (FOLDER / "main.tf").open() as file:
        found = plain(hcl2.load(file))["resource"]
    return {kind: body for resource in found for kind, named in resource.items() for body in named.values()}


def policy(name: str) -> Tree:
    """A policy file with the variables that main.tf gives to templatefile()."""
    return json.loads(string.Template((FOLDER / name).read_text()).substitute(PLACE))


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_itself_parses_it_and_would_format_it_so() -> None:
    done = subprocess.run(["terraform", "fmt", "-check", "-diff", FOLDER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_variables_and_resources_that_are_named_exist() -> None:
    text = "".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    declared = set(re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE))
    assert set(re.findall(r"\b(aws_\w+)\.(\w+)", text)) <= declared
    assert all((FOLDER / name).is_file() for name in re.findall(r"path\.module}/([\w.-]+)", text))


def test_the_bucket_is_private_versioned_encrypted_and_not_deleted_by_accident(resources: Tree) -> None:
    block = resources["aws_s3_bucket_public_access_block"]
    names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert [block[name] for name in names] == [True] * 4
    assert resources["aws_s3_bucket_versioning"]["versioning_configuration"] == [{"status": "Enabled"}]
    encryption = resources["aws_s3_bucket_server_side_encryption_configuration"]["rule"]
    assert encryption == [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]
    assert resources["aws_s3_bucket"]["lifecycle"] == [{"prevent_destroy": True}]


def test_old_states_versions_and_orphan_uploads_go_away_and_nothing_else(resources: Tree) -> None:
    rules = {rule.pop("id"): rule for rule in resources["aws_s3_bucket_lifecycle_configuration"]["rule"]}
    assert all(rule.pop("status") == "Enabled" for rule in rules.values())
    assert rules["training-states"] == {
        "filter": [{"prefix": "${var.prefix}/states/"}],
        "expiration": [{"days": 14}],
        "noncurrent_version_expiration": [{"noncurrent_days": 1}],
    }
    assert rules["orphan-uploads"]["abort_incomplete_multipart_upload"] == [{"days_after_initiation": 2}]
    assert rules["noncurrent-versions"]["noncurrent_version_expiration"] == [{"noncurrent_days": 30}]
    expiring = [name for name, rule in rules.items() if "days" in rule.get("expiration", [{}])[0]]
    assert expiring == ["training-states"]


def test_the_worker_gets_what_it_does_and_no_more() -> None:
    statements = {statement["Sid"]: statement for statement in policy("worker-policy.json")["Statement"]}
    assert statements["ListOwnPrefix"]["Action"] == "s3:ListBucket"
    assert statements["ListOwnPrefix"]["Resource"] == "arn:aws:s3:::some-bucket"
    prefixes = statements["ListOwnPrefix"]["Condition"]["StringLikeIfExists"]["s3:prefix"]
    assert prefixes == ["some/prefix", "some/prefix/*"]
    objects = statements["ReadAndWriteOwnObjects"]
    assert objects["Resource"] == "arn:aws:s3:::some-bucket/some/prefix/*"
    assert set(objects["Action"]) == {
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    }  # fmt: skip
    assert set(statements) == {"ListOwnPrefix", "ReadAndWriteOwnObjects"}


def test_unencrypted_transport_is_refused() -> None:
    (statement,) = policy("bucket-policy.json")["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == ["arn:aws:s3:::some-bucket", "arn:aws:s3:::some-bucket/*"]


def test_no_secret_enters_terraform_state(resources: Tree) -> None:
    assert "aws_iam_access_key" not in resources
