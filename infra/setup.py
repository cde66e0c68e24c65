"""Make a new server usable: `python infra/setup.py process|kubernetes` creates what is missing, and may be run again.

The bucket of $CSPIPE_S3, the work pools `cpu` and `gpu` (the latter of the given type) and the deployments of
prefect.yaml, on the server of $PREFECT_API_URL. Ends with 1 and the command that failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

TEMPLATE = Path(__file__).parent / "kubernetes" / "gpu-job-template.json"


def create_bucket(url: str) -> None:
    """Create the bucket of s3://bucket/prefix if there is none. Raises ClientError if the keys are wrong."""
    client, place = boto3.client("s3"), urlsplit(url)
    try:
        client.list_objects_v2(Bucket=place.netloc, Prefix=place.path.strip("/"), MaxKeys=1)
    except client.exceptions.NoSuchBucket:
        client.create_bucket(Bucket=place.netloc)


def create_pools(gpu_type: str, folder: Path) -> None:
    """Create or update the work pools; `folder` takes the GPU pool's job template with the image of this place."""
    prefect("work-pool", "create", "cpu", "--type", "process", "--overwrite")
    if gpu_type == "process":
        prefect("work-pool", "create", "gpu", "--type", "process", "--overwrite")
        return
    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    template["variables"]["properties"]["image"]["default"] = os.environ["CSPIPE_WORKER_IMAGE"]
    file = folder / TEMPLATE.name
    file.write_text(json.dumps(template), encoding="utf-8")
    prefect("work-pool", "create", "gpu", "--type", gpu_type, "--base-job-template", str(file), "--overwrite")


def limit_sweeps() -> None:
    """At most three sweeps at once: a cpu worker has four slots, and a sweep's points need one too."""
    with get_client(sync_client=True) as client:  # with the server's auth string, if it has one
        try:
            queue = client.read_work_queue_by_name("sweeps", work_pool_name="cpu")
        except ObjectNotFound:
            queue = client.create_work_queue("sweeps", work_pool_name="cpu")
        client.update_work_queue(queue.id, concurrency_limit=3)


def prefect(*arguments: str) -> None:
    """Run Prefect's own command. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *arguments], check=True)


def main() -> None:
    """Set up bucket, pools and deployments."""
    if sys.argv[1:] not in (["process"], ["kubernetes"]):
        sys.exit("usage: python infra/setup.py process|kubernetes   (type of the work pool gpu)")
    try:
        create_bucket(os.environ["CSPIPE_S3"])
        with tempfile.TemporaryDirectory() as folder:
            create_pools(sys.argv[1], Path(folder))
        limit_sweeps()
        prefect("deploy", "--all")
    except KeyError as error:
        sys.exit(f"{error.args[0]} is not set; infra/.env.example has all variables")
    except (BotoCoreError, ClientError, subprocess.CalledProcessError) as error:
        sys.exit(f"setup: {error}")


if __name__ == "__main__":
    main()
