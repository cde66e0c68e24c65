"""Starting and ending processes that have processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

from flows.local import processes
from flows.local.processes import MARK, Program
from tests.flows.server import wait_for


def test_stopping_kills_what_ignores_sigterm_also_in_sessions_below(tmp_path: Path) -> None:
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('x', flush=True)\ntime.sleep(600)\n"
    )
    below = "import subprocess, sys; subprocess.Popen([sys.executable, sys.argv[1]], start_new_session=True).wait()"
    command = [sys.executable, "-c", below, str(stubborn)]
    program = Program("part", command, tmp_path, os.environ | {MARK: "abc"}, grace=0.5)
    part = processes.start(program, tmp_path / "log")
    wait_for(lambda: processes.tail(tmp_path / "log") == "x", 20)
    assert part.process is not None
    family = [part.process, *part.process.children(recursive=True)]
    processes.stop(part)
    assert part.process is None
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_a_part_stopped_alone_leaves_what_it_started(tmp_path: Path) -> None:
    below = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
    program = Program("part", [sys.executable, "-c", f"{below}\nimport time; time.sleep(600)"], tmp_path, os.environ, 5)
    part = processes.start(program, tmp_path / "log")
    wait_for(lambda: processes.tail(tmp_path / "log"), 20)
    processes.stop_alone(part)
    assert part.process is None
    child = psutil.Process(int(processes.tail(tmp_path / "log")))
    assert child.status() != psutil.STATUS_ZOMBIE
    child.kill()


def test_orphans_are_found_by_their_mark(tmp_path: Path) -> None:
    orphan = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    program = Program("part", [sys.executable, "-c", orphan], tmp_path, os.environ | {MARK: f"m{os.getpid()}"}, grace=1)
    part = processes.start(program, tmp_path / "log")
    wait_for(lambda: part.process is None, 20)
    pid = int(processes.tail(tmp_path / "log"))
    assert psutil.pid_exists(pid)
    processes.sweep(f"m{os.getpid()}", grace=1)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_parts_end_together(tmp_path: Path) -> None:
    """Each ends at SIGTERM only once the other has got it too."""
    program = "import pathlib, signal, sys, time\n" + (
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "signal.signal(signal.SIGTERM, lambda *_: mine.write_text('asked'))\n"
        "print('x', flush=True)\n"
        "while not (mine.exists() and other.exists()): time.sleep(0.05)\n"
        "print('both', flush=True)\n"
    )
    parts = [
        processes.start(
            Program(mine, [sys.executable, "-c", program, mine, other], tmp_path, os.environ, grace=20),
            tmp_path / f"{mine}.log",
        )
        for mine, other in (("a", "b"), ("b", "a"))
    ]
    wait_for(lambda: all(processes.tail(Path(part.log)) for part in parts), 20)
    processes.stop(*parts)
    assert [processes.tail(Path(part.log)) for part in parts] == ["x\nboth", "x\nboth"]


def test_a_stage_ends_while_its_engine_hears_it_and_no_engine_tries_again(tmp_path: Path) -> None:
    """An engine here starts its stage again as soon as that ends; the stage says a word before it does."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.5); print('stored', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('begun', flush=True)\ntime.sleep(600)\n"
    )
    engine = (
        "import pathlib, subprocess, sys\n"
        "while True:\n"
        "    stage = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, text=True)\n"
        "    for line in stage.stdout: print(line, end='', flush=True)\n"
        "    stage.wait()\n"
    )
    program = Program("engine", [sys.executable, "-c", engine, str(stage), "prefect.engine"], tmp_path, os.environ, 20)
    part = processes.start(program, tmp_path / "log")
    wait_for(lambda: processes.tail(tmp_path / "log") == "begun", 20)
    assert part.process is not None
    processes.stop_flow_runs([part.process, *part.process.children(recursive=True)], grace=20)
    assert part.process is None
    assert processes.tail(tmp_path / "log").startswith("begun\nstored")
    assert processes.tail(tmp_path / "log").count("stored") == 1
