"""Commands under Prefect: their lines, their progress, their end."""

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.command import as_step, run_command

CHILDREN = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("timed_out", [True, False])
def test_what_takes_too_long_or_nobody_wants_is_ended_with_all_that_it_started(tmp_path: Path, timed_out: bool) -> None:
    start, lines = time.monotonic(), list[str]()
    how: dict[str, Any] = {"hours": 1.5 / 3600} if timed_out else {"unwanted": lambda: bool(lines)}
    ended = run_command(python(CHILDREN), tmp_path, tell=lines.append, **how)
    assert time.monotonic() - start < 30
    assert ended.status != 0
    assert ended.timed_out == timed_out
    assert gone(int(lines[0]))


def test_images_reached_are_those_of_the_stages_own_work() -> None:
    assert as_step("train: 640/48000 (1 %), 28 images/s, 1680 s left").reached("train") == 640
    assert as_step("train-norm: 5120/5120 (100 %)").reached("train") == 0
    assert as_step("sample cs-10: 64/512 (12 %)").reached("sample@cs-10") == 64
