"""The run log: what is true of one run on one machine and therefore in no DVC output (times, hosts, speeds).

One script file per stage beside the report, which shows what it finds: a script tag works from file://, fetch does not.
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

PARAMS, LOGS = Path("params.yaml"), Path("report/log")
DECISIVE = ("cspipe", "dvc.yaml", PARAMS.name)
"""What decides a run's results, in git. The outputs that git keeps change while a pipeline runs, and do not count."""


class RunLog:
    """Facts of a stage's run, collected while it runs; code and parameters are those of its beginning."""

    def __init__(self, stage: str) -> None:
        self.stage, self.handled, self.device = stage, 0, "cpu"
        """`device`: name of the GPU, or "cpu" and more of it; the log gives the processor's model in place of "cpu"."""
        self._start, self._started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        self._commit, self._changed = _revision()
        self._params = sha256_file(PARAMS) if PARAMS.is_file() else "unknown"

    def images(self, count: int) -> None:
        """Add images that this run handled, for its images/s."""
        self.handled += count

    def facts(self) -> dict[str, Any]:
        """What is known by now, as JSON can write it."""
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
    """The commit checked out, and which decisive files differ from it; ("unknown", []) outside git."""
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
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
