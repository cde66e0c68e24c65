"""The local stack: Prefect's server, an S3 store, workers and the supervisor on one machine, all on 127.0.0.1.

`cspipe up` is one process that starts the parts, keeps them, and ends them when it is interrupted; `cspipe down`
interrupts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from flows.local import parts, processes, stopping
from flows.local.keeper import AGAIN, Keeper
from flows.local.processes import say
from flows.local.record import STACK, Stack, read
from flows.local.stopping import GRACE, KEEPER

SETTINGS = Path("prefect.toml")
HEADER = (
    "# Written by `cspipe up`, removed when the stack ends: the server that `prefect ...` in this folder talks to.\n"
)
SECONDS_TO_STOP = 2 * GRACE + 30
STOPPED = f"stopped; data and logs stay in {STACK}"


def up(detach: bool = False, s3: str | None = None, port: int | None = None) -> None:
    """Start the stack in this folder and wait with it until Ctrl-C, or with `detach` return when all is ready.

    s3: s3://bucket/prefix to use, with credentials from the environment; None starts a store here. port: the server's;
    None takes 4200 or another free one. If the stack runs already, only its ended parts are started again. Raises
    UserError if the stack cannot be started; then no part of it is left.
    """
    home = clone()
    try:
        with _lock(home):
            if not detach:
                return _run(home, s3=s3, port=port)
    except Timeout:
        return _mend(home)
    _run_apart(home, s3=s3, port=port)


def down() -> None:
    """Stop the stack of this folder, from whichever terminal it was started; print a message if there is none."""
    home = clone()
    if (stack := read(home)) is None:
        return say("nothing to stop: no stack runs in this folder")
    processes.ignore_signals()
    if keeper := next((part.process for part in stack.parts if part.name == KEEPER), None):
        say(f"stopping; what runs stores its state, at most {GRACE:.0f} s")
        with suppress(psutil.NoSuchProcess):
            keeper.terminate()
        psutil.wait_procs([keeper], timeout=SECONDS_TO_STOP)
    if (left := read(home)) is not None:  # the keeper was killed, or takes too long
        processes.kill([process for part in left.parts if part.name == KEEPER and (process := part.process)])
        _stop(left)
    say(STOPPED)


def clone() -> Path:
    """Return the current folder. Raises UserError if it is no clone of the project."""
    home = Path.cwd()
    if not (home / "prefect.yaml").is_file():
        raise UserError(f"{home} holds no prefect.yaml; type this in a clone of the project")
    return home


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold the lock of a folder's stack, as long as that runs. Raises Timeout if another process holds it."""
    (home / STACK).mkdir(parents=True, exist_ok=True)
    (home / STACK).chmod(0o700)  # the database, the bucket, the logs
    with FileLock(home / STACK / "lock", blocking=False):
        yield


def _run(home: Path, detached: bool = False, **options: Any) -> None:
    """Start the stack, keep its parts running until a signal comes, and stop it."""
    processes.signals_interrupt()
    if (left := read(home)) is not None:  # the machine went down, or somebody killed the keeper
        _stop(left)
    stack = Stack(home, mark=os.urandom(8).hex())
    try:
        stack.add(processes.as_part(KEEPER, os.getpid()))
        parts.start_all(stack, **options)
        _connect(stack)
        say(_ready(stack, detached))
        if detached:
            _write_to(stack.log(KEEPER))
        keeper = Keeper(stack)
        signal.signal(AGAIN, lambda number, frame: keeper.forget())
        stack.ready = True
        stack.save()
        keeper.keep()
    except KeyboardInterrupt:
        if not stack.ready:
            raise
    finally:
        processes.ignore_signals()
        _stop(stack)
    say(STOPPED)


def _run_apart(home: Path, **options: Any) -> None:
    """Run the stack in a process apart from the terminal; return when all is ready. Raises SystemExit if that fails."""
    command = [sys.executable, "-m", "flows.local.stack", json.dumps(options)]
    process = subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while (stack := read(home)) is None or not stack.ready or stack.parts[0].pid != process.pid:
            if process.poll() is not None:
                raise SystemExit(process.returncode)  # the process has printed why
            time.sleep(0.2)
    except KeyboardInterrupt:
        process.terminate()
        process.wait(SECONDS_TO_STOP)
        raise


def _write_to(log: Path) -> None:
    """Redirect the output of this process from the terminal of `cspipe up --detach` to a file."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _stop(stack: Stack) -> None:
    stopping.stop(stack)
    settings = stack.home / SETTINGS
    if settings.is_file() and settings.read_text().startswith(HEADER):
        settings.unlink()


def _mend(home: Path) -> None:
    """Make the keeper start all ended parts again, also those it has given up, and wait until all run."""
    stack = read(home)
    keeper = stack.parts[0].process if stack is not None and stack.ready else None
    if stack is None or keeper is None:
        raise UserError("another `cspipe up` starts or ends the stack of this folder; wait for it")
    if ended := ", ".join(part.name for part in stack.ended()):
        say(f"the stack runs, but not {ended}; starting that again ...")
        keeper.send_signal(AGAIN)
    patience = time.monotonic() + parts.PATIENCE
    while (stack := read(home)) is not None and (stack.ended() or not parts.serves(stack)):
        if time.monotonic() > patience:
            raise UserError(f"not all is there after {parts.PATIENCE:.0f} s; `cspipe status` and {STACK}/logs say more")
        time.sleep(1)
    if stack is not None:
        say(f"already running: {stack.ui}, S3 {stack.s3}; `cspipe status` says more, `cspipe down` stops it")


def _connect(stack: Stack) -> None:
    """Write prefect.toml, so that `prefect ...` in this folder finds the server; it goes before a user's profiles."""
    settings = stack.home / SETTINGS
    if not _is_users(settings):
        with whole_file(settings) as beside:
            beside.touch(mode=0o600)
            beside.write_text(f'{HEADER}[api]\nurl = "{stack.api}"\nauth_string = "{stack.keys["auth"]}"\n')


def _is_users(settings: Path) -> bool:
    return settings.is_file() and not settings.read_text().startswith(HEADER)


def _ready(stack: Stack, detach: bool) -> str:
    others = _is_users(stack.home / SETTINGS)
    store = f" at {stack.endpoint}, keys in {STACK / 'keys.json'}" if stack.endpoint else ""
    lines = [
        "all is up; what ends by itself is started again",
        f"UI    {stack.ui}    (runs, their logs and images; its password: {stack.keys['auth']})",
        f"S3    {stack.s3}{store}    (results, training states)",
        f"logs  {stack.folder}/logs    (a file for each part)",
    ]
    wanted = {"PREFECT_API_URL": stack.api, "PREFECT_API_AUTH_STRING": stack.keys["auth"]}
    if others or any(os.environ.get(name, value) != value for name, value in wanted.items()):
        why = "this folder has another prefect.toml" if others else "the environment names another server"
        lines.append(f"first  export {' '.join(f'{name}={value}' for name, value in wanted.items())}    ({why})")
    lines.append("next  uv run prefect deployment run train-demo --watch    (in this folder, another terminal)")
    return "\n".join([*lines, "stop  uv run cspipe down" if detach else "stop  Ctrl-C"])


def main() -> None:
    """Run the stack as the process of `cspipe up --detach`; the argument holds the options of `up`, as JSON."""
    try:
        with _lock(home := clone()):
            _run(home, detached=True, **json.loads(sys.argv[1]))
    except UserError as error:
        sys.exit(f"cspipe: {error}")


if __name__ == "__main__":
    main()
