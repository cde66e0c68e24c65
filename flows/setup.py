"""Set up a Prefect server and a bucket for this project's runs: used by `cspipe up` and infra/setup.py.

Every function creates what is missing, updates what exists, and may be called again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from cspipe.runtime.errors import UserError

SLOTS = {"cpu": 4, "gpu": 1}
"""Work pools, and how many flow runs a worker runs at once. A pipeline holds a cpu slot while stages run on gpu."""
SWEEPS = "sweeps"
"""Work queue of the pool cpu, limited to one sweep less than a worker has slots, as points of sweeps need one too."""
JOB_TEMPLATE = Path(__file__).parent.parent / "infra" / "kubernetes" / "gpu-job-template.json"


def create_bucket(url: str) -> None:
    """Create the bucket of s3://bucket/prefix if there is none. Raises botocore's ClientError if the keys are wrong."""
    s3, place = boto3.client("s3"), urlsplit(url)
    try:
        s3.list_objects_v2(Bucket=place.netloc, Prefix=place.path.strip("/"), MaxKeys=1)
    except s3.exceptions.NoSuchBucket:
        s3.create_bucket(Bucket=place.netloc)


def create_pools(client: SyncPrefectClient, gpu_type: str = "process") -> None:
    """Create or update the work pools, resume them, and limit the sweeps.

    gpu_type: "process", or "kubernetes" with jobs of the image $CSPIPE_WORKER_IMAGE. Raises KeyError if it is not set.
    """
    templates = {pool: ("process", ProcessWorker.get_default_base_job_template()) for pool in SLOTS}
    if gpu_type == "kubernetes":
        job = json.loads(JOB_TEMPLATE.read_text(encoding="utf-8"))
        job["variables"]["properties"]["image"]["default"] = os.environ["CSPIPE_WORKER_IMAGE"]
        templates["gpu"] = (gpu_type, job)
    for pool, (kind, template) in templates.items():
        client.create_work_pool(WorkPoolCreate(name=pool, type=kind, base_job_template=template), overwrite=True)
    try:
        queue = client.read_work_queue_by_name(SWEEPS, work_pool_name="cpu")
    except ObjectNotFound:
        queue = client.create_work_queue(SWEEPS, work_pool_name="cpu")
    client.update_work_queue(queue.id, concurrency_limit=SLOTS["cpu"] - 1)


def deploy(client: SyncPrefectClient, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Register the deployments of `folder`/prefect.yaml, return their names. Raises UserError, listing missing ones."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    listed = [entry["name"] for entry in yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]]
    ours = DeploymentFilter.model_validate({"name": {"any_": listed}})  # the server lists 200 at most
    there = {deployment.name for deployment in client.read_deployments(deployment_filter=ours)}
    missing = [name for name in listed if name not in there]
    if done.returncode or missing:
        tail = "\n".join([*done.stdout.splitlines(), *done.stderr.splitlines()][-15:])
        raise UserError(f"not all deployments of prefect.yaml could be registered ({', '.join(missing)}):\n{tail}")
    return listed


def set_up(gpu_type: str) -> None:
    """Create the bucket of $CSPIPE_S3, and on the server of $PREFECT_API_URL the pools and this clone's deployments.

    Raises KeyError for a variable that is not set, and what boto3, httpx and Prefect raise.
    """
    create_bucket(os.environ["CSPIPE_S3"])
    with get_client(sync_client=True) as client:  # with the server's auth string, if it has one
        create_pools(client, gpu_type)
        deploy(client, Path.cwd(), os.environ)
