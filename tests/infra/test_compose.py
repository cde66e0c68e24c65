"""compose.yaml: valid, complete, pinned and closed; its S3 store is started for real."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from compose_spec import PyCompose

from tests.conftest import ROOT
from tests.infra.conftest import INFRA, Tree

FILE = INFRA / "compose.yaml"


def docker_compose() -> list[str] | None:
    """The command of Docker Compose 2, as a plugin or alone; None if there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.lstrip("v")[:1] >= "2":
                return command
    return None


DOCKER_COMPOSE = docker_compose()


def configured(*profiles: str) -> Tree:
    """What Docker Compose itself makes of the file."""
    assert DOCKER_COMPOSE is not None
    given = ["--file", str(FILE), "--env-file", str(INFRA / ".env.example")]
    command = [*DOCKER_COMPOSE, *given, "config", "--format=json"]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COMPOSE_PROFILES": ",".join(profiles)}
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(DOCKER_COMPOSE is None, reason="Docker Compose 2 is not installed")
def test_docker_compose_takes_it_with_and_without_a_gpu_and_a_store() -> None:
    base = {"postgres", "server", "setup", "supervisor", "cpu-worker"}
    assert set(configured("s3")["services"]) == base | {"s3"}
    assert set(configured("s3", "gpu")["services"]) == base | {"s3", "gpu-worker"}
    assert set(configured("none")["services"]) == base


def test_it_follows_the_compose_specification(compose: Tree) -> None:
    text = yaml.safe_dump(compose)  # anchors and merges resolved, as compose does
    PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="restarts"):  # the check can fail
        PyCompose.from_yaml(text.replace("restart: unless-stopped", "restarts: always", 1))


def test_what_services_refer_to_exists(compose: Tree) -> None:
    services = compose["services"]
    for name, service in services.items():
        needed = {key: value for key, value in service.get("depends_on", {}).items() if value.get("required", True)}
        assert all("profiles" not in services[other] for other in needed), f"{name} needs a service that may be off"
        assert service["networks"]
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (INFRA / source).is_file(), volume


def test_images_are_pinned_and_ours_carry_the_project_version(compose: Tree) -> None:
    images = {service["image"] for service in compose["services"].values()}
    assert all(tag and tag != "latest" for _, _, tag in (image.partition(":") for image in images))
    version = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    ours = {image for image in images if image.startswith("cspipe-")}
    assert {image.split(":")[1] for image in ours} == {version.split('"')[1]}


def test_only_what_asks_for_a_secret_is_published_and_on_this_machine_alone(compose: Tree) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:4200:4200"], "s3": ["127.0.0.1:8333:8333"]}
    assert compose["services"]["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    assert compose["networks"]["database"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == ["database"]


def test_workers_share_no_disk_and_know_everything_they_need(compose: Tree) -> None:
    workers = {name: service for name, service in compose["services"].items() if "cspipe-worker" in service["image"]}
    assert set(workers) == {"setup", "supervisor", "cpu-worker", "gpu-worker"}
    volumes = [volume for service in workers.values() for volume in service.get("volumes", [])]
    assert len(volumes) == len(set(volumes)) == 2
    needed = {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "CSPIPE_S3", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"}
    assert all(needed <= set(service["environment"]) for service in workers.values())
    assert not any("POSTGRES_PASSWORD" in service["environment"] for service in workers.values())


@pytest.fixture(scope="module")
def store(compose: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the service s3, run by its own command with this machine's addresses and free ports."""
    folder, service = tmp_path_factory.mktemp("store"), compose["services"]["s3"]
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port.grpc", "s3.port")  # fmt: skip
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
    for probe in probes:
        probe.close()
    own = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    own += [f"-{name}={port}" for name, port in ports.items()]
    weed = str(Path(sys.executable).parent / "weed")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [weed, *service["command"][1:], *own], env=service["environment"], cwd=folder, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        patience = time.monotonic() + 90
        while failure(url, service["environment"]):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < patience, failure(url, service["environment"])
            time.sleep(0.5)
        yield url
    finally:
        process.kill()
        process.wait()


def client(url: str, keys: dict[str, str]) -> Any:
    """A boto3 client that gives up at once."""
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"], config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def failure(url: str, keys: dict[str, str]) -> str:
    """Why an object could not be written and read back; "" if it could."""
    try:
        s3 = client(url, keys)
        if "some" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket="some")
        s3.put_object(Bucket="some", Key="key", Body=b"value")
        return "" if s3.get_object(Bucket="some", Key="key")["Body"].read() == b"value" else "another value"
    except (ClientError, BotoCoreError) as error:
        return str(error)


def test_the_store_takes_the_key_of_the_environment_and_no_other(store: str, env: dict[str, str]) -> None:
    assert failure(store, env) == ""
    assert "SignatureDoesNotMatch" in failure(store, env | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert "InvalidAccessKeyId" in failure(store, env | {"AWS_ACCESS_KEY_ID": "somebody"})
