"""A parallel map over all cores, with results in order and in bounded memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from math import prod
from typing import Any, TypeVar

from cspipe.runtime.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job], Result]

CHUNK_BYTES, CHUNK_IMAGES = 2**22, 64
"""Bytes and images of one job, at most: enough to outweigh the cost of sending them, few enough for memory."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Number of cores that this process may use."""

_work: Work[Any, Any]
"""Function that this worker process applies to each job; set when the process starts."""


def chunks(items: Sequence[Job], shape: tuple[int, ...]) -> list[Sequence[Job]]:
    """Cut `items`, each an image of `shape`, into jobs."""
    length = min(max(CHUNK_BYTES // prod(shape), 1), CHUNK_IMAGES)
    return [items[start : start + length] for start in range(0, len(items), length)]


def parallel_map(
    setup: Callable[[], Work[Job, Result]], jobs: Sequence[Job], workers: int | None = None
) -> Iterator[Result]:
    """Yield work(job) for every job, in the order of the jobs, where work = setup() is made once per process.

    `workers` processes (None: one per core) change the speed, not the results; at most a few results wait in memory.
    Processes are spawned, not forked: a fork copies locks that other threads hold. Raises UserError if one ends early.
    """
    workers = min(workers or CORES, len(jobs))
    if workers <= 1:
        yield from map(setup(), jobs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(setup,))
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:  # not pool.map, which submits all jobs at once, however many results wait to be used
            waiting.append(pool.submit(_do, job))
            if len(waiting) == 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended before its work was done, most often for lack of memory; free some, or allow fewer "
            "cores (`taskset -c 0 ...`), and run the same command again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(setup: Callable[[], Work[Any, Any]]) -> None:
    """Initialise a worker process: it ignores Ctrl-C, which its parent handles, and ends when its parent ends."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _work = setup()


def _follow_parent() -> None:
    """End this process when its parent has ended or was killed: reading the pool's queue would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Any) -> Any:
    return _work(job)
