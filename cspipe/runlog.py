"""The run log: what is true of one run on one machine and therefore in no DVC output (times, hosts, speeds).

One script file per stage beside the report, which shows what it finds: a script tag works from file://, fetch does not.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cspipe.files import whole_file


@dataclass
class RunLog:
    """Facts of a stage's run, collected while it runs."""

    stage: str
    device: str = "cpu"
    """Name of the GPU, or "cpu", for which the log gives the processor."""
    handled: int = 0
    _start: float = field(default_factory=time.monotonic)
    _started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def images(self, count: int) -> None:
        """Add images that this run handled, for its images/s."""
        self.handled += count

    def write(self, folder: Path) -> None:
        """Write `folder/<stage>.js`, replacing the log of the run before."""
        seconds = time.monotonic() - self._start
        facts = {
            "stage": self.stage,
            "started": self._started,
            "seconds": round(seconds, 1),
            "images": self.handled,
            "images_per_second": round(self.handled / seconds, 1),
            "device": _processor() if self.device == "cpu" else self.device,
            "host": platform.node(),
            "commit": _commit(),
            "python": platform.python_version(),
            "torch": version("torch"),
        }
        entry = f"(window.runLog = window.runLog || {{}})[{json.dumps(self.stage)}] = {json.dumps(facts)};\n"
        with whole_file(folder / f"{self.stage}.js") as path:
            path.write_text(entry)


def _commit() -> str:
    """The commit checked out, marked if the working tree differs from it; "unknown" outside git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
