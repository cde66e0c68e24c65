"""A stage's place in the queue of a pool, as a future: its task is pending, not running, until a worker begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.futures import PrefectFuture
from prefect.states import Completed


@dataclass(frozen=True)
class Queued:
    """What became of queueing a stage: the flow run that a worker has begun, or why there is none."""

    run: UUID | None = None
    error: Exception | None = None


class QueuedStage(PrefectFuture[Queued]):
    """Queues a stage when those upstream are done; done itself when a worker has begun, or queueing failed.

    `queue` queues the stage and waits for the worker. In Prefect's graph this future is the last of those upstream.
    """

    def __init__(self, upstream: Sequence[PrefectFuture[Any]], queue: Callable[[], FlowRun]) -> None:
        self._upstream, self._queue = upstream, queue
        self._lock, self._queued = threading.Lock(), Queued()
        self._done = False

    @property
    def task_run_id(self) -> UUID:
        """Task run of the last stage upstream."""
        return self._upstream[-1].task_run_id

    @property
    def state(self) -> State[Queued]:
        """Completed with what became of it: an error is for the stage's task to raise."""
        return Completed(data=self._queued)

    def wait(self, timeout: float | None = None) -> None:
        """Queue the stage if nobody has yet, and return when a worker has begun. `timeout` is not used."""
        with self._lock:
            if self._done:
                return
            for future in self._upstream:
                future.wait()
            if all(future.state.is_completed() for future in self._upstream):  # else Prefect skips the stage
                try:
                    self._queued = Queued(run=self._queue().id)
                except Exception as error:
                    self._queued = Queued(error=error)
            self._done = True

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Queued:
        """What became of it."""
        self.wait()
        return self._queued

    def add_done_callback(self, fn: Callable[[PrefectFuture[Queued]], None]) -> None:
        """Call `fn` with this future when it is done."""
        self.wait()
        fn(self)
