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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cspipe.runtime.files import sha256_file, whole_file

PARAMS = Path("params.yaml")
DECISIVE = ("cspipe", "dvc.yaml", PARAMS.name)
"""What decides a run's results, in git. The outputs that git keeps change while a pipeline runs, and do not count."""


@dataclass
class RunLog:
    """Facts of a stage's run, collected while it runs; code and parameters are those of its beginning."""

    stage: str
    device: str = "cpu"
    """Name of the GPU, or "cpu", for which the log gives the processor."""
    handled: int = 0
    _start: float = field(default_factory=time.monotonic)
    _started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _revision: tuple[str, list[str]] = field(default_factory=lambda: _revision())
    _params: str = field(default_factory=lambda: sha256_file(PARAMS) if PARAMS.is_file() else "unknown")

    def images(self, count: int) -> None:
        """Add images that this run handled, for its images/s."""
        self.handled += count

    def facts(self) -> dict[str, Any]:
        """What is known by now, as JSON can write it."""
        seconds = time.monotonic() - self._start
        commit, changed = self._revision
        return {
            "stage": self.stage,
            "started": self._started,
            "seconds": round(seconds, 1),
            "images": self.handled,
            "images_per_second": round(self.handled / seconds, 1),
            "device": _processor() if self.device == "cpu" else self.device,
            "host": platform.node(),
            "commit": commit,
            "dirty": bool(changed),
            "changed": changed,
            "params_sha256": self._params,
            "flow_run": os.environ.get("CSPIPE_FLOW_RUN"),
            "python": platform.python_version(),
            "torch": version("torch"),
            "cuda": _cuda(),
        }

    def write(self, folder: Path) -> None:
        """Write `folder/<stage>.js`, replacing the log of the run before."""
        facts = self.facts()
        facts["commit"] = facts["commit"][:12] + ("-dirty" if facts["dirty"] else "")
        entry = f"{_opening(self.stage)}{json.dumps(facts)};\n"
        with whole_file(folder / f"{self.stage}.js") as path:
            path.write_text(entry)


def read_log(folder: Path, stage: str) -> dict[str, Any]:
    """The log of a stage's last run, as `RunLog.write` left it; empty if there is none, or it is damaged."""
    try:
        text = (folder / f"{stage}.js").read_text()
        facts = json.loads(text.removeprefix(_opening(stage)).rstrip().removesuffix(";"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _opening(stage: str) -> str:
    return f"(window.runLog = window.runLog || {{}})[{json.dumps(stage)}] = "


def _revision() -> tuple[str, list[str]]:
    """The commit checked out, and which decisive files differ from it; ("unknown", []) outside git."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--no-renames", "--", *DECISIVE).splitlines()
        return commit, [line[3:] for line in changed]
    except (OSError, subprocess.CalledProcessError):
        return "unknown", []


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def _cuda() -> str | None:
    """The CUDA version torch was built for, if the stage used torch at all."""
    torch = sys.modules.get("torch")
    return torch.version.cuda if torch is not None else None


def _processor() -> str:
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
