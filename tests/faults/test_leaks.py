"""200 small pipelines in one process: memory, open files, threads and temporary files stay flat.

But for what two libraries leave, which means nothing to stages: each is a process of its own. DVCLive: a thread that
waits for ever with the curves of a training, 95 KiB; here it is kept from it. safetensors (0.8): two integers of 32
bytes for each tensor read, 2,778 of them for the 1,389 of a pipeline.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import pytest
from dvclive.live import Live

from tests.conftest import Tree, change
from tests.faults.workspace import FORK, folder_with

pytestmark = pytest.mark.slow
PIPELINES, WARM = 200, 20
"""Of them, those before the first measure: caches fill up at first."""
LEFT = 3000
"""Blocks of Python's that a pipeline may leave: those of safetensors, and noise."""
LINE = (("prepare",), ("train",), ("compensate",), ("sample", "cs-10"), ("evaluate", "cs-10"), ("report",))


class Heap(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = (("numbers", ctypes.c_size_t * 10),)

    @property
    def used(self) -> int:
        """Bytes that are not free again: mapped one by one, and within the heaps."""
        return int(self.numbers[4] + self.numbers[7])


def _pipelines(folder: Path, told: Path) -> None:
    """A process that runs every stage again and again, and writes a line of measures after each pipeline."""
    quiet = os.open(folder.parent / "told.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(quiet, stream)
    os.chdir(folder)
    tempfile.tempdir = str(folder.parent / "temporary")
    Path(tempfile.tempdir).mkdir()
    Live.post_data_to_studio = lambda live: None  # starts the thread, whether Studio is used or not
    me, libc = psutil.Process(), ctypes.CDLL(None)
    libc.mallinfo2.restype = Heap
    for _ in range(PIPELINES):
        for stage in LINE:
            sys.argv = list(stage)
            importlib.import_module(f"cspipe.stages.{stage[0]}").main()
        gc.collect()
        libc.malloc_trim(0)  # stages let glibc keep what is free (cspipe/runtime/device.py)
        measured = {
            "memory": me.memory_full_info().uss,
            "used": libc.mallinfo2().used,
            "blocks": sys.getallocatedblocks(),
            "files": me.num_fds(),
            "threads": threading.active_count(),
            "temporary": len(list(Path(tempfile.tempdir).iterdir())),
            "folder": sum(1 for _ in folder.rglob("*")),
        }
        with told.open("a", encoding="utf-8") as file:
            file.write(json.dumps(measured) + "\n")


def test_pipelines_leave_nothing_in_their_process(small: Tree, tmp_path: Path) -> None:
    tiny = {"data.limit": 60, "train.images": 16, "train.method": "plain", "sample.images": 8, "evaluate.images": 8}
    tree = change(small, {**tiny, "variants": {"cs-10": small["variants"]["cs-10"]}})
    folder, told = folder_with(tmp_path / "line", tree), tmp_path / "measured.txt"
    process = FORK.Process(target=_pipelines, args=(folder, told))
    process.start()
    process.join(3000)
    process.kill()
    assert process.exitcode == 0, (tmp_path / "told.txt").read_text()[-2000:]
    rows = [json.loads(line) for line in told.read_text().splitlines()]
    grown = {key: rows[-1][key] - rows[WARM][key] for key in rows[0]}
    # a gap of 50 MB between what is used comes or goes with some pipeline: what each one leaves is the median
    memory = [row["memory"] for row in rows[WARM:]]
    grown["memory"] = int(median(after - before for before, after in pairwise(memory)) * len(memory))
    print(f"{PIPELINES} pipelines in one process: grown since the {WARM}th: {grown}; at the end: {rows[-1]}")
    assert grown.pop("memory") < 25 * 2**20
    assert max(memory) - min(memory) < 100 * 2**20
    assert grown.pop("used") < 8 * 2**20  # seen: one step of 3.8 MB, and else not a kilobyte
    assert grown.pop("blocks") < LEFT * (PIPELINES - WARM)
    assert grown == dict.fromkeys(grown, 0)
