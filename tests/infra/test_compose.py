"""compose.yaml: valid, complete, pinned and closed; its S3 store is started for real."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from compose_spec import PyCompose

from tests.flows.server import end, free_port, wait_for
from tests.infra.conftest import INFRA, SECRETS, VARIABLE, Tree, read_env

OUTSIDE = "127.0.0.2"
"""In the place of the container's address in its network."""


def test_the_shell_reads_the_variables_that_compose_uses() -> None:
    env = read_env(INFRA / ".env.example")
    script = f"set -a; . {INFRA / '.env.example'}; env -0"
    output = subprocess.run(["sh", "-euc", script], env={}, capture_output=True, text=True, check=True).stdout
    seen = dict(line.split("=", 1) for line in output.split("\0") if "=" in line)
    assert {name: seen.get(name) for name in env} == env
    text = (INFRA / "compose.yaml").read_text()
    used = [found[1] for found in VARIABLE.finditer(text)]
    assert set(used) <= set(env)
    assert text.count("$") == len(used), "no other way of writing one is overlooked"


def test_compose_refuses_secrets_that_nobody_has_filled_in() -> None:
    """`${NAME:?}` fails for an empty value, with the name, before anything starts."""
    empty = {name for name, value in read_env(INFRA / ".env.example").items() if not value}
    needed = {found[1] for found in VARIABLE.finditer((INFRA / "compose.yaml").read_text()) if found[2] == ":?"}
    assert empty & needed == set(SECRETS)
    assert empty - needed == {"CSPIPE_GIT_TOKEN", "WANDB_API_KEY"}


def test_it_follows_the_compose_specification(compose: Tree) -> None:
    text = yaml.safe_dump(compose)  # anchors and merges resolved, as compose does
    # Docker takes a tag before a digest and ignores it; this reader takes one of the two.
    PyCompose.from_yaml(re.sub(r":[\w.-]+@sha256", "@sha256", text)).validate()


def test_only_what_asks_for_a_secret_is_published_and_on_this_machine_alone(compose: Tree) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:4200:4200"], "s3": ["127.0.0.1:8333:8333"]}
    server = compose["services"]["server"]["environment"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"]
    assert server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert compose["networks"]["database"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == ["database"]


@pytest.fixture(scope="module")
def store(compose: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Address of the service s3, run by its own command with free ports, and all that the container shows outside."""
    folder, service = tmp_path_factory.mktemp("store"), compose["services"]["s3"]
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc", "s3.port")  # fmt: skip
    ports = {name: free_port() for name in names}
    places = [f"-dir={folder}", f"-s3.ip.bind={OUTSIDE}"]
    places += [f"-{name}={port}" for name, port in ports.items()]
    program = INFRA / service["volumes"][1].split(":")[0]
    weed, env = str(Path(sys.executable).parent / "weed"), service["environment"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, program, weed, *service["command"][3:], *places],
            env=env, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://{OUTSIDE}:{ports['s3.port']}"
    try:
        wait_for(lambda: failure(url, env) == "", 90)
        listening = [at.laddr for at in psutil.Process(process.pid).net_connections("tcp") if at.status == "LISTEN"]
        yield url, [f"http://{at.ip}:{at.port}" for at in listening if at.ip != "127.0.0.1"]
    finally:
        end([process])


def failure(url: str, keys: dict[str, str]) -> str:
    """Why an object could not be written and read back; "" if it could."""
    try:
        s3 = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"], config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        if "some" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket="some")
        s3.put_object(Bucket="some", Key="key", Body=b"value")
        return "" if s3.get_object(Bucket="some", Key="key")["Body"].read() == b"value" else "another value"
    except (ClientError, BotoCoreError) as error:
        return str(error)


def test_the_store_takes_the_key_of_the_environment_and_no_other(
    store: tuple[str, list[str]], env: dict[str, str]
) -> None:
    url, shown = store
    assert failure(url, env) == ""
    assert "SignatureDoesNotMatch" in failure(url, env | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "InvalidAccessKeyId" in failure(url, env | {"AWS_ACCESS_KEY_ID": "somebody"})
    for other in {*shown} - {url}:  # gRPC of S3
        with pytest.raises(httpx.TransportError):
            httpx.get(other, timeout=5)
    assert len(shown) == 2, "master, filer and volumes stay in the container"
