"""One stage in one workspace: fetch what it reads, let DVC decide whether it runs, push what it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo

from cspipe.storage import Bucket
from cspipe.storage_errors import StorageError, Unreachable
from cspipe.training.mirror import forget
from flows.command import Ended, Step, end_tree, run_command
from flows.failures import StageFailed, Transient, failure, reason
from flows.graph import Node
from flows.workspace import Workspace

How = Literal["ran", "restored from the run cache, not run", "up to date, not run"]
PATIENCE = (5, 10, 20, 40, 60)
"""Seconds between tries while S3 cannot be reached."""
DVC = ("python", "-m", "dvc", "--wait-for-lock")

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
    """Runs stages of one run in a workspace; `tell` gets each line, `progress` how far a stage is.

    It stops when `unwanted` says that nobody waits for the stage any more."""

    def __init__(
        self,
        workspace: Workspace,
        run: str,
        tell: Callable[[str], None],
        progress: Callable[[Step], None],
        unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.workspace, self.run, self._unwanted = workspace, run, unwanted
        self.tell: Callable[[str], None] = lambda line: None if line.strip().startswith(HINTS) else tell(line)
        self._progress, self._reached = progress, 0

    def __call__(self, node: Node) -> Outcome:
        """Run a stage. Raises StageFailed, or Transient for causes that go away by themselves."""
        start = time.monotonic()
        end_earlier_attempt(self.run, node.name, self.tell)
        if self.workspace.bucket is not None:
            self._fetch(node, self.workspace.bucket)
        pull = ["--pull"] if self.workspace.bucket is not None else []
        ended = self._command(["repro", "--single-item", *pull, node.name], node, node.hours)
        if ended.status:
            raise failure(node.name, ended, node.hours, self._reached)
        if self.workspace.bucket is not None:
            self._patiently(["push", "--run-cache", node.name], node, self.workspace.bucket)
            patiently(lambda: push_kept_by_git(self.workspace, node), self.workspace.bucket, self.tell)
            with suppress(StorageError):  # the bucket's lifecycle deletes them too
                forget(self.workspace.bucket, f"states/{node.name}", self.run)
        return Outcome(node.name, how(ended.lines), time.monotonic() - start)

    def _fetch(self, node: Node, bucket: Bucket) -> None:
        """What the stage reads, and the list of what was run anywhere."""
        patiently(lambda: pull_run_cache(self.workspace), bucket, self.tell)
        needed = [*node.upstream, *node.data]
        if needed:
            self._patiently(["pull", *needed], node, bucket)

    def _command(self, arguments: Sequence[str], node: Node, hours: float) -> Ended:
        names = {"CSPIPE_FLOW_RUN": self.run, "CSPIPE_STAGE": node.name}
        if self.workspace.bucket is not None:
            names["CSPIPE_S3"] = self.workspace.bucket.url
        return run_command(
            [*DVC, *arguments],
            self.workspace.root,
            tell=self.tell,
            progress=self._note,
            hours=hours,
            unwanted=self._unwanted,
            environment=names,
        )

    def _note(self, step: Step) -> None:
        self._reached = max(self._reached, step.done)
        self._progress(step)

    def _patiently(self, arguments: Sequence[str], node: Node, bucket: Bucket) -> None:
        """A transfer, tried again while S3 cannot be reached."""
        for pause in (*PATIENCE, None):
            ended = self._command(arguments, node, hours=24)
            if not ended.status:
                return
            problem = outage(bucket, ended.lines)
            if problem is None:
                raise StageFailed(f"{node.name}: dvc {arguments[0]}: {reason(ended.lines)}")
            if pause is None:
                raise Transient(f"{node.name}: {problem}", self._reached)
            self.tell(f"{problem}; trying again in {pause} s")
            time.sleep(pause)


def how(lines: Sequence[str]) -> How:
    """What DVC's own words say about the stage."""
    if any("is cached - skipping run" in line for line in lines):
        return "restored from the run cache, not run"
    return "ran" if any(line.startswith("Running stage") for line in lines) else "up to date, not run"


def outage(bucket: Bucket, lines: Sequence[str]) -> str | None:
    """One line if a transfer failed because S3 is away, None if for any other reason."""
    try:
        bucket.check()
    except Unreachable as error:
        return str(error)
    text = "\n".join(lines).lower()
    return "S3 was away for a moment" if any(sign in text for sign in AWAY) else None


def pull_run_cache(workspace: Workspace) -> None:
    """Learn from the remote which stages were run anywhere, with what result. A remote without any is fine."""
    with Repo(str(workspace.root)) as repo:
        repo.stage_cache.pull(None)


def push_kept_by_git(workspace: Workspace, node: Node) -> None:
    """Push the outputs that git keeps too: `dvc push --run-cache` leaves them out, but a restore needs them."""
    with Repo(str(workspace.root)) as repo:
        stage = next(stage for stage in repo.index.stages if stage.name == node.name)
        for out in stage.outs:
            if not out.use_cache:
                out.use_cache = True  # of this object alone; the run cache has kept a copy
                for objects in out.get_used_objs().values():
                    repo.cloud.push(objects)


def patiently(transfer: Callable[[], None], bucket: Bucket, tell: Callable[[str], None]) -> None:
    """Call a transfer of DVC's, again while S3 cannot be reached. Raises Transient if that lasts, StageFailed else."""
    for pause in (*PATIENCE, None):
        try:
            return transfer()
        except (DvcException, OSError) as error:
            problem = outage(bucket, [str(error)])
            if problem is None:
                raise StageFailed(f"{bucket.url}/dvc: {error}") from error
            if pause is None:
                raise Transient(problem) from error
            tell(f"{problem}; trying again in {pause} s")
            time.sleep(pause)


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
