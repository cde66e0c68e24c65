"""Commands under Prefect: their lines, their progress, their end."""

import sys
import time
from pathlib import Path

import psutil

from flows.command import as_step, run_command

CHILDREN = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_after_its_time_the_command_and_what_it_started_are_ended(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = run_command(python(CHILDREN), tmp_path, tell=lines.append, hours=3 / 3600)
    assert ended.timed_out
    assert gone(int(lines[0]))


def test_a_command_that_nobody_wants_any_more_is_ended(tmp_path: Path) -> None:
    start, lines = time.monotonic(), list[str]()
    ended = run_command(python(CHILDREN), tmp_path, tell=lines.append, unwanted=lambda: bool(lines))
    assert time.monotonic() - start < 30
    assert ended.status != 0
    assert not ended.timed_out
    assert gone(int(lines[0]))


def test_images_reached_are_those_of_the_stages_own_work() -> None:
    assert as_step("train: 640/48000 (1 %), 28 images/s, 1680 s left").reached("train") == 640
    assert as_step("train-norm: 5120/5120 (100 %)").reached("train") == 0
    assert as_step("sample cs-10: 64/512 (12 %)").reached("sample@cs-10") == 64
