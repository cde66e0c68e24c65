"""Run one stage in one workspace: pull its inputs, let DVC decide whether it has to run, push its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

from cspipe.runtime.ends import forget_end, read_end
from cspipe.runtime.lease import forget
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import StorageError, Unreachable
from flows.command import GRACE, Ended, Step, run_command
from flows.dvc_steps import BEGINS, push_steps, steps_command
from flows.failures import StageFailed, failure, pause, reason
from flows.graph import Node
from flows.local.processes import stop, variable
from flows.workspace import Workspace

How = Literal["ran", "restored from the run cache, not run", "up to date, not run"]
UP_TO_DATE: How = "up to date, not run"
RESTORED: How = "restored from the run cache, not run"
PATIENCE = (5, 10, 20, 40, *[60] * 29)
"""Seconds before each new try while S3 cannot be reached; half an hour in all."""
AWAY = ("connect", "timed out", "timeout", "slowdown", "reduce your request rate", "internalerror")
"""Parts of DVC's messages (it has no exit status for this) if S3 did not answer or was overloaded; lower case."""
HINTS = ("To track the changes", "git add", "To enable auto staging", "dvc config", "Use `dvc push`")
"""Beginnings of DVC's hints to a person at a terminal, which are not logged: a run ends with an experiment."""


@dataclass(frozen=True)
class Outcome:
    """How DVC handled a stage (ran, restored or up to date), and in how many seconds."""

    stage: str
    how: How
    seconds: float


@dataclass
class StageRunner:
    """Runs stages of one pipeline run in a workspace.

    `tell` gets each line of output, `progress` each Step, `warn` a message before each wait for S3. A stage is stopped
    when `unwanted` returns true: its result is no longer needed.
    """

    workspace: Workspace
    run: str
    tell: Callable[[str], None]
    progress: Callable[[Step], None]
    unwanted: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = print
    _step: int = field(default=0, init=False)
    _how: How = field(default=UP_TO_DATE, init=False)

    def __call__(self, node: Node) -> Outcome:
        """Run a stage. Raises StageFailed, or Transient for a cause that may pass by itself."""
        start, reached, self._how = time.monotonic(), 0, UP_TO_DATE
        left = self._steps(node)
        end_earlier_attempt(self.run, node.name, self.tell)
        forget_end(self.workspace.root, node.name)

        def on_step(step: Step) -> None:
            """Keep the largest number of images reached, and pass the step on."""
            nonlocal reached
            reached = max(reached, step.reached(node.name))
            self.progress(step)

        pauses = iter(PATIENCE)
        while (ended := self._command(left, node, on_step)).status:
            left = left[self._step :]
            if self._step:
                pauses = iter(PATIENCE)
            problem, seconds = self._outage(left[0], node, ended, reached), next(pauses, None)
            if seconds is None:
                raise StageFailed(f"{node.name}: {problem}; waited for {sum(PATIENCE) // 60} min; start the run again")
            self.warn(f"{problem}; trying again in {seconds} s")
            pause(seconds, self.unwanted)
        if self.workspace.bucket is not None:
            with suppress(StorageError):  # the bucket's lifecycle deletes them too
                forget(self.workspace.bucket, f"states/{node.name}", self.run)
        return Outcome(node.name, self._how, time.monotonic() - start)

    def _steps(self, node: Node) -> list[list[str]]:
        """Return DVC's commands: pull the inputs, run the stage or restore it from the run cache, push the outputs."""
        repro = ["repro", "--single-item", node.name]
        if self.workspace.bucket is None:
            return [repro]
        read = [*node.upstream, *node.data]
        return [*([["pull", *read]] if read else []), [*repro, "--pull"], *push_steps(node)]

    def _command(self, steps: Sequence[Sequence[str]], node: Node, on_step: Callable[[Step], None]) -> Ended:
        names = {"CSPIPE_FLOW_RUN": self.run, "CSPIPE_STAGE": node.name}
        if self.workspace.bucket is not None:
            names["CSPIPE_S3"] = self.workspace.bucket.url
        self._step = 0
        return run_command(
            steps_command(steps),
            self.workspace.root,
            tell=self._on_line,
            progress=on_step,
            hours=node.hours,
            unwanted=self.unwanted,
            environment=names,
        )

    def _on_line(self, line: str) -> None:
        """Update step and outcome from a line of output, and pass it on unless it is one of HINTS."""
        if line.startswith(BEGINS):
            self._step = int(line.removeprefix(BEGINS))
        elif not line.strip().startswith(HINTS):
            self._how = how(line) or self._how
            self.tell(line)

    def _outage(self, step: Sequence[str], node: Node, ended: Ended, reached: int) -> str:
        """Return a one-line message if the step failed because S3 is away; raise StageFailed or Transient otherwise."""
        bucket, ran = self.workspace.bucket, step[0] == "repro" and self._how == "ran"
        problem = outage(bucket, ended.lines) if bucket is not None and not ran and not ended.timed_out else None
        if problem is not None:
            return problem
        if step[0] == "repro" or ended.timed_out:
            raise failure(node.name, ended, read_end(self.workspace.root, node.name), node.hours, reached)
        hint = "; `dvc push` in a clone that has them brings them to S3" if step[0] == "pull" and node.data else ""
        raise StageFailed(f"{node.name}: dvc {step[0]}: {reason(ended.lines)}{hint}")


def how(line: str) -> How | None:
    """Return what a line of DVC's output says about the stage: its only sign whether a stage ran or was restored."""
    if "is cached - skipping run" in line:
        return RESTORED
    return "ran" if line.startswith("Running stage") else None


def outage(bucket: Bucket, lines: Sequence[str]) -> str | None:
    """Return a one-line message if a transfer failed because S3 is away, None if for any other reason."""
    try:
        bucket.check()
    except Unreachable as error:
        return str(error)
    text = "\n".join(lines).lower()
    return "S3 was away for a moment" if any(sign in text for sign in AWAY) else None


def end_earlier_attempt(run: str, stage: str, tell: Callable[[str], None]) -> None:
    """End processes of an earlier attempt at this stage that outlived their flow: two trainings must not share a GPU.

    They are found by CSPIPE_FLOW_RUN and CSPIPE_STAGE in their environment, which are set where a stage is started.
    """
    for process in psutil.process_iter():
        if variable(process, "CSPIPE_FLOW_RUN") == run and variable(process, "CSPIPE_STAGE") == stage:
            tell(f"{stage}: ending process {process.pid} of an earlier attempt")
            stop([process], GRACE)
