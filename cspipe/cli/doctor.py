"""`cspipe doctor`: check by trials that this machine and folder have what the pipeline needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import succeeds
from cspipe.runtime.project import check_at_root
from cspipe.runtime.wording import printable

SECONDS = 10
"""Timeout of a server's answer, in seconds."""
PROJECT = "project"
LITTLE_DISK, NO_DISK = 10.0, 1.0
"""Free disk space in GB below which to warn, or to report a problem.

The environment takes 7 GB, the demo's results less than one.
"""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="print a list of findings as JSON")] = False) -> None:
    """Check what the pipeline needs, and say what is missing and how to fix it; exit status 1 if something is."""
    found = list[dict[str, str]]()
    for name, (check, fix) in CHECKS.items():
        for each in _findings(name, check, fix):
            found.append(each)
            if not as_json:
                print(f"{each['state']:8} {name:10} {printable(each['text'])}", flush=True)
                print(f"{'':19} fix: {printable(each['fix'])}\n" if each["fix"] else "", end="", flush=True)
    if as_json:
        print(json.dumps(found, indent=2))
    raise typer.Exit(any(each["state"] == "problem" for each in found))


def _findings(name: str, check: Callable[[], Found], fix: str) -> Iterator[dict[str, str]]:
    from cspipe.config.params_file import ParamsError

    try:
        for each in check():
            yield finding(name, *each)
    except Exception as error:  # whatever a library raises, the other checks go on
        if isinstance(error, ParamsError) and name != PROJECT:  # reported by the check PROJECT
            return
        words = str(error).split("; ", 1) if isinstance(error, UserError) else (f"{type(error).__name__}: {error}", fix)
        yield finding(name, "problem", *words)


def finding(name: str, state: str, text: str, fix: str = "") -> dict[str, str]:
    """Return a finding, of state ok, warning or problem; user names and passwords are removed from addresses in it."""
    text, fix = (re.sub(r"(?<=://)[^/@\s]*@", "", each) for each in (text, fix))
    return {"name": name, "state": state, "text": text, "fix": fix}


Found = Iterable[tuple[Any, ...]]
"""Findings of a check as tuples (state, text, fix); without a fix if the state is ok."""


def _python() -> Found:
    yield "ok", f"{sys.version.split()[0]} at {sys.executable}"
    if subprocess.run(["python", "-c", "import cspipe"], capture_output=True).returncode:  # as dvc.yaml does
        yield "problem", "the stages run `python`, which cannot import cspipe", CHECKS["Python"][1]


def _torch() -> Found:
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    yield "ok", f"{torch.__version__}, {built}"
    smi = ["nvidia-smi", "--query-gpu=name,driver_version,memory.free", "--format=csv,noheader"]
    asked = subprocess.run(smi, capture_output=True, text=True) if shutil.which(smi[0]) else None
    seen = "; ".join(asked.stdout.splitlines()) if asked else ""
    if torch.cuda.is_available():
        yield "ok", f"GPU: {seen or torch.cuda.get_device_name()}"
    elif seen:
        yield "problem", f"GPU: {seen}: torch cannot use it", "update the driver, or install a torch built for it"
    else:
        yield "ok", "GPU: none found; the demo needs none"
        if _params().compute.device == "cuda":
            yield "problem", "compute.device is cuda", "set it to auto or cpu, or install NVIDIA's driver"


def _cores() -> Found:
    from cspipe.runtime.device import free_cores

    free, threads = free_cores(), _params().compute.threads
    few = threads > 1 and free < threads - 0.5
    fix = "wait for other programs, or lower compute.threads (it changes the last digits)" if few else ""
    yield "warning" if few else "ok", f"{free:.1f} free, compute.threads is {threads}", fix


def _disk() -> Found:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    state = "problem" if free < NO_DISK else "warning" if free < LITTLE_DISK else "ok"
    yield state, f"{free:.0f} GB free here", "" if state == "ok" else "`dvc gc --workspace` deletes old results"


def _project() -> Found:
    from cspipe.runtime.code_lock import check_code

    check_at_root()
    if not succeeds(Path(), "rev-parse", "HEAD") or not Path(".dvc").is_dir():
        yield "problem", "not a git and DVC repository with a commit", "`cspipe init DIR` makes one"
    check_code()
    params = _params()
    yield "ok", f"params.yaml is valid: {params.task}, {params.data.source}, {params.data.size} pixels"


def _remote() -> Found:
    from dvc.repo import Repo

    if not Path(".dvc").is_dir():  # reported by the check PROJECT
        return
    with Repo() as repo:
        name = repo.config["core"].get("remote")
        url = repo.config["remote"][name]["url"] if name else ""
    if not name:
        yield "warning", "none: results are on this machine only", "`dvc remote add -d NAME s3://bucket/prefix/dvc`"
        return
    brief = {"remote": {name: {"connect_timeout": 3, "read_timeout": SECONDS}}}
    with Repo(config=brief if url.startswith("s3:") else None) as repo:
        remote = repo.cloud.get_remote()
        fs, place = remote.fs, remote.fs.join(remote.path, f".cspipe-doctor-{os.getpid()}")
        fs.makedirs(remote.path, exist_ok=True)
        fs.pipe_file(place, b"cspipe")
        same = fs.cat_file(place) == b"cspipe"
        fs.rm_file(place)
    assert same, f"{url} returns other bytes than were written"
    yield "ok", f"{url}: written, read, deleted"


def _s3() -> Found:
    from cspipe.runtime.storage import Bucket

    if not (url := os.environ.get("CSPIPE_S3")):
        yield "ok", "CSPIPE_S3 is not set; only workers need it"
        return
    Bucket.from_url(url).check()
    yield "ok", f"{url}: listed, written, deleted"


def _prefect() -> Found:
    if not find_spec("prefect"):
        yield "ok", "not installed; only workers and their clients need it"
        return
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    if not (url := PREFECT_API_URL.value()):
        yield "ok", "PREFECT_API_URL is not set; only workers and their clients need it"
        return
    with get_client(httpx_settings={"timeout": SECONDS}, sync_client=True) as client:
        pools = client.read_work_pools()
        missing = "" if pools else "`cspipe up` creates them"
        yield "warning" if missing else "ok", f"{url} has {len(pools)} work pools", missing
        for pool in pools:
            online = [each for each in client.read_workers_for_work_pool(pool.name) if each.status.value == "ONLINE"]
            fix = "" if online else f"`cspipe worker {pool.name}` starts one"
            yield "ok" if online else "warning", f"pool {pool.name}: {len(online)} workers online", fix


def _wandb() -> Found:
    if (mode := _params().tracking.wandb) != "online":
        yield "ok", f"tracking.wandb is {mode}: nothing is sent"
        return
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    known = wandb.login(timeout=SECONDS, verify=True)  # wandb finds the key; one passed here it stores in ~/.netrc
    yield ("ok", "the key is valid") if known else ("problem", "no key for Weights & Biases", CHECKS["W&B"][1])


def _params() -> Any:
    """Return the parameters of params.yaml in this folder. Raises UserError."""
    from cspipe.config.params_file import load_params

    return load_params()


CHECKS: dict[str, tuple[Callable[[], Found], str]] = {
    "Python": (_python, "activate its environment, or use `uv run`"),
    "torch": (_torch, "reinstall cspipe, or update NVIDIA's driver"),
    "cores": (_cores, ""),
    "disk": (_disk, ""),
    PROJECT: (_project, "install git"),
    "DVC remote": (_remote, "correct it with `dvc remote modify`, or its keys; `dvc doctor` says more"),
    "S3": (_s3, "see CSPIPE_S3, AWS_ENDPOINT_URL and the AWS keys"),
    "Prefect": (_prefect, "start the server (`cspipe up`), or correct PREFECT_API_URL and PREFECT_API_AUTH_STRING"),
    "W&B": (_wandb, "set WANDB_API_KEY, or tracking.wandb: offline"),
}
"""Checks by name, each with the fix to show where the error of a library names none."""
