"""Which workers a machine gets. tests/flows/local/test_stack.py starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.local import workers


@pytest.mark.parametrize(("variable", "gpus"), [("", []), ("0,2", ["0", "2"]), ("GPU-7a", ["GPU-7a"])])
def test_the_gpus_that_were_chosen_are_taken(monkeypatch: pytest.MonkeyPatch, variable: str, gpus: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert workers.visible_gpus() == gpus


def test_each_gpu_gets_a_worker_that_sees_all_that_were_chosen(tmp_path: Path) -> None:
    programs = workers.programs("gpu", tmp_path, {"A": "b"}, ["0", "GPU-7a"])
    assert [(program.name, program.environment["CUDA_VISIBLE_DEVICES"]) for program in programs] == [
        ("gpu-0", "0,GPU-7a"), ("gpu-1", "0,GPU-7a")
    ]  # fmt: skip
    assert all(program.command[-2:] == ["1", "--no-create-pool-if-not-found"] for program in programs)
    [without] = workers.programs("gpu", tmp_path, {}, [])
    assert without.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_worker_has_a_temporary_folder_of_its_own(tmp_path: Path) -> None:
    """Prefect's is /tmp/runner_storage: whoever comes first owns it, and nobody else can start a worker."""
    [program] = workers.programs("cpu", tmp_path, {"PATH": os.environ["PATH"]}, [])
    shell = program.command[: program.command.index(sys.executable)]
    show = 'stat -c %a "$TMPDIR"; rmdir "$TMPDIR"'
    found = subprocess.run([*shell, "sh", "-c", show], env=program.environment, capture_output=True, check=True)
    assert found.stdout == b"700\n"
