"""The keeper with real processes. tests/flows/local/test_stack.py has it keep a stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.local import keeper, processes, stack
from flows.local.keeper import Falls, Keeper
from flows.local.processes import MARK, Part, Program
from flows.local.stack import Stack
from tests.flows.server import wait_for


def ended(name: str = "supervisor") -> Part:
    """A part that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return Part(name, process.pid, time.time() - 3600, "", grace=1)


def test_what_ends_again_and_again_is_given_up_until_somebody_types_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    starts: list[str] = []

    def start_again(stack: Stack, name: str) -> None:
        starts.append(name)
        stack.add(processes.start(Program(name, ["false"], tmp_path, os.environ, grace=1), tmp_path / "log"))

    monkeypatch.setattr(keeper, "start_again", start_again)
    monkeypatch.setattr(keeper, "FIRST_PAUSE", 0.01)
    one, kept = Stack(tmp_path, mark="x", parts=[ended()]), Keeper()
    for _ in range(100):
        kept.look(one)
        time.sleep(0.02)
    assert starts == ["supervisor"] * keeper.STARTS
    said = capsys.readouterr().out
    assert "supervisor has ended; it is started again in 0 s" in said
    assert "supervisor has ended 6 times; only `cspipe up` starts it again now" in said
    kept.forget()
    kept.look(one)
    assert len(starts) == keeper.STARTS + 1


def test_pauses_grow_and_a_steady_part_starts_anew(tmp_path: Path) -> None:
    kept, falls = Keeper(), Falls()
    pauses = []
    for _ in range(3):
        kept._fallen(ended(), falls, 0.0)
        pauses.append(falls.start_at)
    assert pauses == [1.0, 2.0, 4.0]
    with subprocess.Popen(["sleep", "600"]) as process:
        part = processes.as_part("supervisor", process.pid, None, 1)
        kept.falls["supervisor"] = Falls(count=3, started=time.monotonic() - keeper.STEADY - 1)
        kept.look(Stack(tmp_path, mark="x", parts=[part]))
        process.kill()
    assert kept.falls["supervisor"].count == 0


def test_a_worker_waits_for_the_server(tmp_path: Path) -> None:
    nowhere = Stack(tmp_path, mark="x", api="http://127.0.0.1:1/api")
    assert not keeper._may_start(nowhere, ended("gpu-0"))
    assert keeper._may_start(nowhere, ended("server"))


def test_it_ends_at_sigterm_and_when_the_stack_is_gone(tmp_path: Path) -> None:
    one = Stack(tmp_path, mark="x")
    one.save()
    program = Program("keeper", [sys.executable, "-m", "flows.local.keeper"], tmp_path, os.environ | {MARK: "x"}, 5)
    for end in (lambda part: os.kill(part.pid, signal.SIGTERM), lambda part: stack._record(tmp_path).unlink()):
        part = processes.start(program, tmp_path / "log")
        one.save()
        time.sleep(1)
        end(part)
        wait_for(lambda part=part: part.process is None, 60)
    assert "Traceback" not in processes.tail(tmp_path / "log")
