"""The run log: facts of one run on one machine (times, hosts, speeds), which are therefore in no DVC output.

Each stage has a script file beside the report, and the report shows those that it finds. They are scripts because a
page opened from file:// can load a script tag, but cannot fetch.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cspipe.runtime import energy
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.inputs import PARAMS, Inputs

LOGS = Path("report/log")
DECISIVE = ("cspipe", "dvc.yaml", PARAMS.name)
"""Paths in git that decide a run's results. Outputs in git are left out, as they change while a pipeline runs."""


class RunLog:
    """Facts of a stage's run, collected while it runs; code and parameters are those at its start."""

    inputs: Inputs
    """Set by `stage`."""

    def __init__(self, stage: str) -> None:
        self.stage, self.handled, self.device = stage, 0, "cpu"
        """`device`: name of the GPU, or text that starts with "cpu", for which the log gives the processor's model."""
        self._start, self._started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        self._commit, self._changed = _revision()
        self._params = sha256_file(PARAMS) if PARAMS.is_file() else "unknown"

    def images(self, count: int) -> None:
        """Add `count` to the images that this run has handled, for its images/s."""
        self.handled += count

    def facts(self) -> dict[str, Any]:
        """Return the facts known so far, serialisable as JSON."""
        seconds, torch = time.monotonic() - self._start, sys.modules.get("torch")
        return {
            "stage": self.stage,
            "started": self._started,
            "seconds": round(seconds, 1),
            "images": self.handled,
            "images_per_second": round(self.handled / seconds, 1),
            "device": processor() + self.device.removeprefix("cpu") if self.device.startswith("cpu") else self.device,
            "gpu_joules": energy.joules(),
            "host": platform.node(),
            "commit": self._commit,
            "dirty": bool(self._changed),
            "changed": self._changed,
            "params_sha256": self._params,
            "flow_run": os.environ.get("CSPIPE_FLOW_RUN"),
            "python": platform.python_version(),
            "torch": version("torch"),
            "cuda": torch.version.cuda if torch is not None else None,
        }

    def write(self, folder: Path) -> None:
        """Write `folder/<stage>.js`, replacing the log of the run before."""
        facts = self.facts()
        facts["commit"] = facts["commit"][:12] + ("-dirty" if facts["dirty"] else "")
        with whole_file(folder / f"{self.stage}.js") as path:
            stage, value = json.dumps(self.stage), json.dumps(facts)
            path.write_text(f"(window.runLog = window.runLog || {{}})[{stage}] = {value};\n")


def _revision() -> tuple[str, list[str]]:
    """(commit checked out, files in DECISIVE that differ from it); ("unknown", []) outside git."""
    try:
        status = ["status", "--porcelain", "--no-renames", "--", *DECISIVE]
        commit, changed = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()
            for arguments in (["rev-parse", "HEAD"], status)
        )
        return commit[0], [line[3:] for line in changed]
    except (OSError, subprocess.CalledProcessError):
        return "unknown", []


def processor() -> str:
    """Model name of the processor from /proc/cpuinfo, or else what Python's `platform` knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
