"""The local stack: Prefect's server, an S3 store, workers and the supervisor on one machine, all on 127.0.0.1.

`cspipe up`, `cspipe down` and `cspipe status` are `up`, `down` and `status` here. Everything lies in .cspipe/stack: the
server's database, the bucket, the keys, the logs, and stack.json, which says what runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from flows.local import interrupted, processes, s3_server
from flows.local.processes import Part

STACK = Path(".cspipe/stack")
SETTINGS = Path("prefect.toml")
KEEPER = "keeper"
WATCHERS, STORES = (KEEPER, "supervisor"), ("server", "s3")
"""What is stopped before the workers, and what after them."""
MINE = "# Written by `cspipe up`, removed when the stack ends: the server that `prefect ...` in this folder talks to.\n"


@dataclass
class Stack:
    """What runs, in the order in which it was started. Kept in stack.json after each change."""

    home: Path
    mark: str
    api: str = ""
    s3: str = ""
    endpoint: str = ""
    """Of the stack's own S3 server, "" if the bucket is somebody else's."""
    gpus: list[str] = field(default_factory=list)
    """As CUDA_VISIBLE_DEVICES names them, a worker each."""
    parts: list[Part] = field(default_factory=list)

    @property
    def ui(self) -> str:
        """Address of Prefect's pages."""
        return self.api.removesuffix("/api")

    @property
    def logs(self) -> Path:
        """Folder of the parts' logs."""
        return self.home / STACK / "logs"

    def add(self, part: Part) -> Part:
        """Record a part that was just started, in place of one of its name, so that it is stopped whatever comes."""
        names = [other.name for other in self.parts]
        if part.name in names:
            self.parts[names.index(part.name)] = part
        else:
            self.parts.append(part)
        self.save()
        return part

    def part(self, name: str) -> Part | None:
        """The part of a name."""
        return next((part for part in self.parts if part.name == name), None)

    def ended(self) -> list[Part]:
        """The parts that no longer run."""
        return [part for part in self.parts if part.process is None]

    def save(self) -> None:
        """Write stack.json."""
        record = asdict(self) | {"home": os.fspath(self.home)}
        with whole_file(_record(self.home)) as beside:
            beside.write_text(json.dumps(record, indent=1))

    def stop(self) -> None:
        """End everything, and forget the stack: who starts again what ends, all workers together, server and store.

        Nothing new is taken meanwhile. Stages that are at work get the workers' grace to store their state.
        """
        if (keeper := self.part(KEEPER)) is not None:
            _say(_stopping(keeper))
            processes.stop_alone(keeper)  # what it has started anew are its children
        if (now := read(self.home)) is not None:
            self.parts = now.parts  # the keeper may have started some anew
        self._end([part for part in self.parts if part.name in WATCHERS and part.name != KEEPER])
        self._end_workers([part for part in self.parts if part.name not in WATCHERS + STORES])
        self._end([part for part in self.parts if part.name in STORES])
        processes.sweep(self.mark, grace=5)
        s3_server.remove_sockets(self.home / STACK / "s3")
        settings = self.home / SETTINGS
        if settings.is_file() and settings.read_text().startswith(MINE):
            settings.unlink()
        _record(self.home).unlink(missing_ok=True)

    def _end_workers(self, parts: list[Part]) -> None:
        """End workers and what they do. They are killed: at SIGTERM, Prefect's kill the engines of their runs."""
        interrupted.pause(self.api)
        for part in reversed(parts):
            _say(_stopping(part))
            if (process := part.process) is not None:
                process.kill()
        at_work = interrupted.at_work(self.mark)
        processes.stop_flow_runs(at_work, max((part.grace for part in parts), default=0))
        interrupted.tell(self.api, set(at_work.values()))

    def _end(self, parts: list[Part]) -> None:
        for part in reversed(parts):
            _say(_stopping(part))
        processes.stop(*parts)


def up(detach: bool = False, s3: str | None = None, port: int | None = None, gpus: list[str] | None = None) -> None:
    """Start the stack in this folder and wait with it until Ctrl-C, or with `detach` return when all is ready.

    s3: s3://bucket/prefix to use, with credentials from the environment; None starts a store here. port: of the server;
    None takes 4200 or another free one. gpus: as in CUDA_VISIBLE_DEVICES, one worker each; None takes all visible.
    If the stack runs, only what has ended of it is started again. Raises UserError if it cannot be started; then
    nothing of it is left.
    """
    from flows.local import stack_parts

    home = _clone()
    processes.interrupted_by_signals()
    with _one_at_a_time(home):
        if (stack := read(home)) is not None and stack.ended() != stack.parts:
            return _mend(stack)
        if stack is not None:  # the machine went down, or somebody killed it
            stack.stop()
        stack = Stack(home, mark=os.urandom(8).hex())
        try:
            stack_parts.start_all(stack, s3, port, gpus)
            _connect(stack)
        except (Exception, KeyboardInterrupt):
            processes.deaf_to_signals()
            stack.stop()
            raise
    _say(_ready(stack, detach))
    if not detach:
        _wait(stack)


def down() -> None:
    """Stop the stack of this folder, wherever it was started. Says so if there is none."""
    home = _clone()
    stack = read(home)
    if stack is None:
        return _say("nothing to stop: no stack runs in this folder")
    processes.deaf_to_signals()
    stack.stop()
    _say("stopped; data and logs stay in .cspipe/stack")


def status() -> bool:
    """Print how each part is and what runs, in this folder's stack or else at PREFECT_API_URL. True if all is well."""
    from flows.local import health

    stack = read(_clone())
    api = health.elsewhere() if stack is None else stack.api
    if api is None:
        _say("no stack runs in this folder; `uv run cspipe up` starts it")
        return False
    well = True
    for name, fine, text in health.health(stack, api):
        _say(f"{'ok  ' if fine else 'FAIL'} {name:12} {text}")
        well &= fine
    for line in health.unfinished(api):
        _say(line)
    return well


def read(home: Path) -> Stack | None:
    """The stack that was started in a folder and not stopped; it may have died since. None if there is none."""
    file = _record(home)
    if not file.exists():
        return None
    record = json.loads(file.read_text())
    return Stack(**record | {"home": home, "parts": [Part(**part) for part in record["parts"]]})


def _clone() -> Path:
    home = Path.cwd()
    if not (home / "prefect.yaml").is_file():
        raise UserError(f"{home} holds no prefect.yaml; type this in a clone of the project")
    return home


def _record(home: Path) -> Path:
    return home / STACK / "stack.json"


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    (home / STACK).mkdir(parents=True, exist_ok=True)
    with (home / STACK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another `cspipe up` is starting the stack of this folder; wait for it") from None
        yield


def _mend(stack: Stack) -> None:
    """Have the keeper start again what has ended, also what it has given up, and wait for it; start it if need be."""
    from flows.local import stack_parts

    ended = ", ".join(part.name for part in stack.ended())
    if ended:
        _say(f"the stack runs, but not {ended}; starting that again ...")
        stack_parts.mend(stack)
    _say(f"already running: {stack.ui}, S3 {stack.s3}; `cspipe status` says more, `cspipe down` stops it")


def _connect(stack: Stack) -> None:
    """Make `prefect ...` in this folder find the server: prefect.toml goes before a user's own profiles."""
    settings = stack.home / SETTINGS
    if settings.is_file() and not settings.read_text().startswith(MINE):
        return
    with whole_file(settings) as beside:
        beside.write_text(f'{MINE}[api]\nurl = "{stack.api}"\n')


def _ready(stack: Stack, detach: bool) -> str:
    settings = stack.home / SETTINGS
    foreign = settings.is_file() and not settings.read_text().startswith(MINE)
    other = os.environ.get("PREFECT_API_URL", stack.api) != stack.api
    store = f" at {stack.endpoint}, keys in {STACK / 'keys.json'}" if stack.endpoint else ""
    lines = [
        "all is up; what ends by itself is started again",
        f"UI    {stack.ui}    (runs, their logs and pictures)",
        f"S3    {stack.s3}{store}    (results, training states)",
        f"logs  {stack.logs}    (a file for each part)",
    ]
    if foreign or other:
        why = "this folder has a prefect.toml of its own" if foreign else "PREFECT_API_URL is another server's here"
        lines.append(f"first  export PREFECT_API_URL={stack.api}    ({why})")
    lines.append("next  uv run prefect deployment run train-demo    (in this folder, another terminal)")
    return "\n".join([*lines, "stop  uv run cspipe down" if detach else "stop  Ctrl-C"])


def _wait(stack: Stack) -> None:
    """Return when the stack was stopped, by Ctrl-C here or `cspipe down` elsewhere. Repeats what its keeper says."""
    try:
        with (stack.logs / f"{KEEPER}.log").open(encoding="utf-8", errors="replace") as said:
            said.seek(0, os.SEEK_END)
            while (now := read(stack.home)) is not None and now.mark == stack.mark:
                for line in said:
                    _say(line.rstrip())
                time.sleep(1)
    except KeyboardInterrupt:
        processes.deaf_to_signals()
        stack.stop()
    _say("stopped; data and logs stay in .cspipe/stack")


def _stopping(part: Part) -> str:
    return f"stopping {part.name} (at most {part.grace:.0f} s)" if part.process else f"{part.name} has ended"


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
