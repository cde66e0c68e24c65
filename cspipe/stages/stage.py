"""What every stage does around its work: a run log, and errors that a person can act on."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cspipe.lineage.records import keep_records
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import EXIT_STATUS, Preempted, heeded
from cspipe.runtime.runlog import LOGS, RunLog
from cspipe.runtime.shared_cache import link_shared_cache

PREPARED, MAIN, COMPENSATION = Path("data/prepared"), Path("models/main"), Path("models/compensation")
STATES = Path(".cspipe/states")
"""Training states: outside of DVC's outputs, which DVC deletes before a run."""
AGAIN = "the same command goes on from the last stored state, if there is one"


@contextmanager
def stage(name: str) -> Iterator[RunLog]:
    """Run a stage's body; write its log if it ends well; turn what the user can put right into one message, exit 1.

    SIGTERM ends it with one message too, exit 75.
    """
    log = RunLog(name)
    try:
        with heeded():
            link_shared_cache()
            yield log
            log.write(LOGS)
            keep_records(log.facts())
    except UserError as error:
        _stop(name, str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        _stop(name, _about_storage(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":  # torch's, unimported
            raise
        _stop(name, f"out of memory ({error}); lower train.micro_batch or sample.batch in params.yaml")
    except Preempted as preempted:
        _stop(name, str(preempted) or f"stopped by SIGTERM; {AGAIN}", EXIT_STATUS)
    except KeyboardInterrupt:
        _stop(name, f"stopped; {AGAIN}", 130)


def state_key(*parts: Any) -> str:
    """Name of a run's states: a digest of its parameters and inputs (anything JSON can write)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _about_storage(error: OSError) -> str:
    """A full disk or a missing permission, with the place and what to do."""
    where = error.filename or Path.cwd()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(Path.cwd()).free / 2**20
        return f"the disk is full ({free:.0f} MiB free here, writing {where}); make room and run the same command again"
    return f"no permission to write {where} ({error.strerror}); make it writable and run the same command again"


def _stop(name: str, message: str, status: int = 1) -> None:
    print(f"\ncspipe {name}: {message}", file=sys.stderr)
    raise SystemExit(status)
