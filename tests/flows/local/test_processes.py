"""Starting and ending processes that have processes."""

import os
import sys
from pathlib import Path

from flows.local import processes
from flows.local.processes import MARK, Part, Program
from tests.flows.server import wait_for

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(600)"
PARENT = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True)"
TOGETHER = """
import pathlib, signal, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: mine.write_text('asked'))
print('x', flush=True)
while not (mine.exists() and other.exists()): time.sleep(0.05)
print('both', flush=True)
"""


def start(folder: Path, *arguments: str, name: str = "part", **variables: str) -> Part:
    """A part that runs Python and logs to a file of its name."""
    program = Program(name, [sys.executable, "-c", *arguments], folder, os.environ | variables)
    return processes.start(program, folder / name)


def test_stopping_kills_what_ignores_sigterm_also_in_sessions_below(tmp_path: Path) -> None:
    part = start(tmp_path, f"{PARENT}; child.wait()", STUBBORN)
    wait_for(lambda: processes.tail(tmp_path / "part") == "x", 20)
    assert part.process is not None
    family = processes.running([part.process])
    assert len(family) == 2
    processes.stop([part.process], grace=0.5)
    assert processes.running(family) == []


def test_orphans_are_found_by_their_mark(tmp_path: Path) -> None:
    mark = f"m{os.getpid()}"
    part = start(tmp_path, PARENT, "import time; time.sleep(600)", **{MARK: mark})
    wait_for(lambda: part.process is None, 20)
    orphans = processes.find_marked(mark)
    assert len(orphans) == 1
    processes.stop(orphans, grace=5)
    assert processes.running(orphans) == []


def test_parts_end_together(tmp_path: Path) -> None:
    """Each ends at SIGTERM only once the other has got it too."""
    parts = [start(tmp_path, TOGETHER, f"{a}.asked", f"{b}.asked", name=a) for a, b in (("a", "b"), ("b", "a"))]
    wait_for(lambda: all(processes.tail(tmp_path / name) for name in "ab"), 20)
    processes.stop([part.process for part in parts], grace=20)
    assert [processes.tail(tmp_path / name) for name in "ab"] == ["x\nboth", "x\nboth"]
