"""terraform/: parsed as HCL, its protections checked, and the worker's policy."""

import json
import shutil
import string
import subprocess
from typing import Any

import hcl2
import pytest

from tests.infra.conftest import INFRA, Tree

FOLDER = INFRA / "terraform"


def plain(tree: Any) -> Any:
    """The parser's tree without quotes and marks; a block that stands once in place of a list of one."""
    if isinstance(tree, dict):
        return {plain(key): plain(value) for key, value in tree.items() if not key.startswith("__")}
    if isinstance(tree, list):
        return [plain(item) for item in tree]
    return tree.strip('"') if isinstance(tree, str) else tree


@pytest.fixture(scope="module")
def resources() -> Tree:
    with (FOLDER / "main.tf").open() as file:
        found = plain(hcl2.load(file))["resource"]
    return {kind: body for resource in found for kind, named in resource.items() for body in named.values()}


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_itself_parses_it_and_would_format_it_so() -> None:
    done = subprocess.run(["terraform", "fmt", "-check", "-diff", FOLDER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_bucket_is_private_versioned_encrypted_and_not_deleted_by_accident(resources: Tree) -> None:
    block = resources["aws_s3_bucket_public_access_block"]
    names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert [block[name] for name in names] == [True] * 4
    assert resources["aws_s3_bucket_versioning"]["versioning_configuration"] == [{"status": "Enabled"}]
    encryption = resources["aws_s3_bucket_server_side_encryption_configuration"]["rule"]
    assert encryption == [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]
    assert resources["aws_s3_bucket"]["lifecycle"] == [{"prevent_destroy": True}]


def test_only_training_states_and_leftovers_expire(resources: Tree) -> None:
    rules = {rule["id"]: rule for rule in resources["aws_s3_bucket_lifecycle_configuration"]["rule"]}
    assert all(rule["status"] == "Enabled" for rule in rules.values())
    expiring = {name for name, rule in rules.items() if "days" in rule.get("expiration", [{}])[0]}
    assert {name: rules[name]["filter"] for name in expiring} == {
        "training-states": [{"prefix": "${var.prefix}/states/"}]
    }


def test_the_worker_reaches_its_prefix_alone() -> None:
    text = string.Template((FOLDER / "worker-policy.json").read_text())
    statements = json.loads(text.substitute(bucket="some-bucket", prefix="some/prefix"))["Statement"]
    assert [each["Action"] for each in statements if isinstance(each["Action"], str)] == ["s3:ListBucket"]
    objects = [each for each in statements if isinstance(each["Action"], list)]
    assert [each["Resource"] for each in objects] == ["arn:aws:s3:::some-bucket/some/prefix/*"]
    assert not [action for each in objects for action in each["Action"] if "Version" in action or "*" in action]
