"""A stage in several processes (ranks) of torch's elastic launcher: compute.gpus on each of compute.nodes machines.

The ranks run the stage's own command. Their launcher, the process that DVC, a worker or a person has started, keeps the
stage's lock, forwards SIGTERM and Ctrl-C, waits for the ranks, and reports how they ended.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psutil
import torch
import torch.distributed as dist

from cspipe.runtime.device import ComputeSettings, claim
from cspipe.runtime.ends import End, StageEnd, forget_end, read_end, write_end
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import Preempted, sigterm_deferred
from cspipe.runtime.ranks import LAUNCHER, inside, name_of, rank
from cspipe.runtime.stage import AGAIN

if TYPE_CHECKING:  # the launcher is imported where there are ranks to launch
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

SECONDS_BETWEEN_LOOKS = 0.1
LONGEST_WAIT = 86400
"""Seconds that ranks wait for each other: one may wait for S3, another machine may start later. A lost rank ends it."""


class RankFailed(UserError):
    """A rank failed and ended the stage; the reason is the rank's own, or else its signal or exit status."""

    def __init__(self, end: End, message: str) -> None:
        super().__init__(message)
        self.end = end  # type: ignore[misc]  # each has its own


def start_ranks(stage: str, compute: ComputeSettings) -> None:
    """Continue in as many processes as `compute` says: return in each of them, and raise SystemExit in their launcher.

    With one process it returns at once. If a rank fails, the launcher raises Preempted or UserError instead.
    """
    if inside():
        _join()
    elif (count := claim(compute)) > 1 or compute.nodes > 1:
        _launch(stage, _config(stage, count, compute.nodes))


def _join() -> None:
    """Join the other ranks, silence all but rank 0, and end when the launcher ends, which signal 9 may kill alone."""

    def end_with_launcher() -> None:
        """End this process as soon as the launcher is no longer its parent."""
        while str(os.getppid()) == os.environ[LAUNCHER]:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(End.KILLED)

    threading.Thread(target=end_with_launcher, daemon=True).start()
    if rank():
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=LONGEST_WAIT))
    atexit.register(dist.destroy_process_group)


def _config(stage: str, count: int, nodes: int) -> LaunchConfig:
    """Configure torch's launcher. Raises UserError if the variables that name the machines are missing or wrong."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    place: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    run_id, configs = uuid4().hex, {"timeout": LONGEST_WAIT}
    if nodes > 1:
        try:
            node, address = int(os.environ["NODE_RANK"]), f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        except (KeyError, ValueError) as error:
            raise UserError(
                f"params.yaml: compute.nodes is {nodes}; set NODE_RANK (0 to {nodes - 1}) on each machine, and "
                f"MASTER_ADDR and MASTER_PORT, of machine 0, on all ({error})"
            ) from None
        place, run_id = {"rdzv_backend": "static", "rdzv_endpoint": address}, stage
        configs["rank"] = node
    elif os.name == "posix":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    logs = DefaultLogsSpecs(os.devnull)
    return LaunchConfig(
        nodes, nodes, count, logs_specs=logs, run_id=run_id, rdzv_configs=configs, max_restarts=0, **place
    )


def _launch(stage: str, config: LaunchConfig) -> None:
    """Run the stage's command in the ranks; raise SystemExit if all succeed, else the error of the one that failed."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for number in range(config.max_nodes * config.nproc_per_node):
        forget_end(Path.cwd(), name_of(stage, number))
    os.environ[LAUNCHER] = str(os.getpid())
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it reports a lost rank in 20 lines
    command = "-m", f"cspipe.stages.{stage.partition('@')[0]}", *sys.argv[1:]
    with sigterm_deferred() as stopping, ThreadPoolExecutor(1) as agent:  # in a thread it handles no signals
        ranks, asked = agent.submit(elastic_launch(config, sys.executable), *command), set[int]()
        try:
            while wait([ranks], SECONDS_BETWEEN_LOOKS).not_done:
                if stopping():
                    _stop(asked)
        except KeyboardInterrupt:  # a second Ctrl-C: the first has asked the ranks to stop
            while wait([ranks], SECONDS_BETWEEN_LOOKS).not_done:
                for process in psutil.Process().children():
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            raise
        try:
            ranks.result()
        except ChildFailedError as error:
            raise _reason(stage, error.failures) from None
        write_end(StageEnd(stage, End.DONE))
        raise SystemExit(End.DONE)


def _stop(asked: set[int]) -> None:
    """Send SIGTERM to each rank, once: ranks are in sessions of their own, and may not all have started yet."""
    for process in psutil.Process().children():
        if process.pid not in asked:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            asked.add(process.pid)


def _reason(stage: str, failures: dict[int, ProcessFailure]) -> UserError | Preempted:
    """Error of the rank that failed first: the others were stopped because of it."""
    first = min(failures, key=lambda rank: (failures[rank].timestamp, failures[rank].exitcode != -signal.SIGKILL))
    status, said = failures[first].exitcode, read_end(Path.cwd(), name_of(stage, first))
    if status == -signal.SIGTERM:  # before the rank had set its handler
        return Preempted()
    if status < 0 or said is None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        end = End.KILLED if status < 0 else End.FAILED
        return RankFailed(end, f"rank {first} {how}, so the others were stopped; {AGAIN}")
    if said.end is End.PREEMPTED:
        return Preempted(said.message)
    return RankFailed(said.end, f"rank {first}: {said.message}")
