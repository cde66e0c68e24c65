"""One stage in one workspace: fetch what it reads, let DVC decide whether it runs, push what it made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from cspipe.runtime.lease import forget
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import StorageError, Unreachable
from flows.command import Ended, Step, end_tree, run_command
from flows.dvc_steps import BEGINS, GPUS, PUSH_KEPT
from flows.failures import StageFailed, failure, reason
from flows.gpus import wanted
from flows.graph import Node
from flows.workspace import Workspace

How = Literal["ran", "restored from the run cache, not run", "up to date, not run"]
UP_TO_DATE: How = "up to date, not run"
RESTORED: How = "restored from the run cache, not run"
PATIENCE = (5, 10, 20, 40, *[60] * 29)
"""Seconds between tries while S3 cannot be reached: half an hour."""
DVC = ("python", "-m", "dvc", "--wait-for-lock")
"""A single command of DVC's; a stage needs several, see flows/dvc_steps.py."""
AWAY = ("connect", "timed out", "timeout", "slowdown", "reduce your request rate", "internalerror")
"""Signs in DVC's messages that S3 did not answer, or was too busy to."""
HINTS = ("To track the changes", "git add", "To enable auto staging", "dvc config", "Use `dvc push`")
"""DVC's advice to a person at a terminal; a run ends with an experiment instead."""


@dataclass(frozen=True)
class Outcome:
    """How DVC dealt with a stage."""

    stage: str
    how: How
    seconds: float


class StageRunner:
    """Runs stages of one run in a workspace.

    `tell` gets each line, `progress` how far a stage is, `warn` what it waits for. It stops when `unwanted` says that
    nobody waits for the stage any more.
    """

    def __init__(
        self,
        workspace: Workspace,
        run: str,
        tell: Callable[[str], None],
        progress: Callable[[Step], None],
        unwanted: Callable[[], bool] = lambda: False,
        warn: Callable[[str], None] = print,
    ) -> None:
        self.workspace, self.run, self._unwanted = workspace, run, unwanted
        self.tell, self._warn, self._progress = tell, warn, progress
        self._stage, self._reached, self._step, self._how = "", 0, 0, UP_TO_DATE

    def __call__(self, node: Node) -> Outcome:
        """Run a stage. Raises StageFailed, or Transient (Away, Killed) for causes that pass."""
        start = time.monotonic()
        self._stage, self._how = node.name, UP_TO_DATE
        left = self._steps(node)
        end_earlier_attempt(self.run, node.name, self.tell)
        pauses = iter(PATIENCE)
        while (ended := self._command(left, node)).status:
            left = left[self._step :]
            if self._step:
                pauses = iter(PATIENCE)
            problem, pause = self._passing(left[0], node, ended), next(pauses, None)
            if pause is None:
                raise StageFailed(f"{node.name}: {problem}; waited for {sum(PATIENCE) // 60} min; start the run again")
            self._warn(f"{problem}; trying again in {pause} s")
            time.sleep(pause)
        if self.workspace.bucket is not None:
            with suppress(StorageError):  # the bucket's lifecycle deletes them too
                forget(self.workspace.bucket, f"states/{node.name}", self.run)
        return Outcome(node.name, self._how, time.monotonic() - start)

    def _steps(self, node: Node) -> list[list[str]]:
        """What DVC is to do: fetch what the stage reads, run it or restore what was run anywhere, push what it made."""
        several = wanted(node)
        gpus = [[GPUS, *several]] if several else []
        repro = ["repro", "--single-item", node.name]
        if self.workspace.bucket is None:
            return [*gpus, repro]
        needed = [*node.upstream, *node.data]
        return [
            *([["pull", *needed]] if needed else []),
            *gpus,
            [*repro, "--pull"],
            ["push", "--run-cache", node.name],
            *([[PUSH_KEPT, node.name]] if node.files else []),
        ]

    def _command(self, steps: Sequence[Sequence[str]], node: Node) -> Ended:
        names = {"CSPIPE_FLOW_RUN": self.run, "CSPIPE_STAGE": node.name}
        if self.workspace.bucket is not None:
            names["CSPIPE_S3"] = self.workspace.bucket.url
        self._step = 0
        return run_command(
            ["python", "-m", "flows.dvc_steps", json.dumps(steps)],
            self.workspace.root,
            tell=self._hear,
            progress=self._note,
            hours=node.hours,
            unwanted=self._unwanted,
            environment=names,
        )

    def _hear(self, line: str) -> None:
        """Learn from a line how far DVC is, and pass it on unless it is for a person at a terminal."""
        if line.startswith(BEGINS):
            self._step = int(line.removeprefix(BEGINS))
        elif not line.strip().startswith(HINTS):
            if how([line]) != UP_TO_DATE:
                self._how = how([line])
            self.tell(line)

    def _note(self, step: Step) -> None:
        self._reached = max(self._reached, step.reached(self._stage))
        self._progress(step)

    def _passing(self, step: Sequence[str], node: Node, ended: Ended) -> str:
        """One line if the step failed because S3 is away. Raises for every other reason."""
        bucket, ran = self.workspace.bucket, step[0] == "repro" and self._how == "ran"
        problem = outage(bucket, ended.lines) if bucket is not None and not ran and not ended.timed_out else None
        if problem is not None:
            return problem
        if step[0] == "repro" or ended.timed_out:
            raise failure(node.name, ended, node.hours, self._reached)
        hint = "; `dvc push` in a clone that has them brings them to S3" if step[0] == "pull" and node.data else ""
        raise StageFailed(f"{node.name}: dvc {step[0]}: {reason(ended.lines)}{hint}")


def how(lines: Sequence[str]) -> How:
    """What DVC's own words say about the stage."""
    if any("is cached - skipping run" in line for line in lines):
        return RESTORED
    return "ran" if any(line.startswith("Running stage") for line in lines) else UP_TO_DATE


def outage(bucket: Bucket, lines: Sequence[str]) -> str | None:
    """One line if a transfer failed because S3 is away, None if for any other reason."""
    try:
        bucket.check()
    except Unreachable as error:
        return str(error)
    text = "\n".join(lines).lower()
    return "S3 was away for a moment" if any(sign in text for sign in AWAY) else None


def end_earlier_attempt(run: str, stage: str, tell: Callable[[str], None]) -> None:
    """End processes of an earlier attempt at this stage that outlived their flow: two trainings must not share a card.

    They are known by the names that StageRunner puts into their environment.
    """
    for process in psutil.process_iter():
        try:
            names = process.environ()
        except (psutil.Error, OSError):
            continue
        if names.get("CSPIPE_FLOW_RUN") == run and names.get("CSPIPE_STAGE") == stage:
            tell(f"{stage}: ending process {process.pid} of an earlier attempt")
            end_tree(process.pid)
