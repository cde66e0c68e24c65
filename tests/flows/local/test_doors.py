"""What another user of the machine, or a web page, gets from the local stack without its secrets: nothing."""

import asyncio
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import FlowRunWatchError
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cspipe.runtime.errors import UserError
from flows import plugin, watch
from flows.local import parts, processes, workers
from flows.local.record import Stack
from flows.local.stopping import SERVER
from tests.fixtures import serving
from tests.flows.local.stacks import run
from tests.flows.server import free_port, wait_for

ALONE = """
import httpx
from prefect.client.orchestration import get_client
from prefect.states import Completed
from flows import pipeline

def look(*arguments, **options):
    with get_client(sync_client=True) as client:
        own, stranger = client.read_flows(), httpx.post(f"{client.api_url}flows/filter", json={})
    return Completed(message=f"{type(own).__name__} {stranger.status_code}")

pipeline.pipeline = look
pipeline.main()
"""
PAGE = "https://example.org"
SOCKETS = ("/events/in", "/events/out", "/logs/out", "/task_runs/subscriptions/scheduled",
           "/work_pools/cpu/workers/connect")  # fmt: skip


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


class Refusing(BaseHTTPRequestHandler):
    """A server with another password than the one it is sent, as after `cspipe down` and `cspipe up`."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_POST = do_GET


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of which Prefect's server alone runs."""
    stack = Stack(tmp_path_factory.mktemp("home"), mark="x", api=f"http://127.0.0.1:{free_port()}/api")
    part = parts.start(stack, SERVER)
    wait_for(lambda: parts.serves(stack), 120)
    yield stack
    processes.stop([part.process], grace=5)


def requests(stack: Stack) -> list[tuple[str, str]]:
    """Method and address of everything that Prefect's server does for anybody."""
    schema = httpx.get(f"{stack.ui}/openapi.json").json()["paths"]
    identity = "6ad2c0a4-0000-4000-8000-000000000000"
    return [
        (method.upper(), stack.api + re.sub(r"\{\w+\}", identity, path.removeprefix("/api")))
        for path, methods in schema.items()
        for method in methods
    ]


@pytest.mark.slow
def test_the_server_does_nothing_without_its_password(stack: Stack) -> None:
    """But to say that it is there. The password comes in a header that no page can have the browser send."""
    found = requests(stack)
    assert len(found) > 100
    with httpx.Client(headers={"Origin": PAGE, "Host": "example.org:4200"}, auth=("cspipe", "guess")) as page:
        for client in (page, httpx.Client()):
            done = {call: client.request(*call, json={}) for call in found}
            assert {call for call, answer in done.items() if answer.status_code != 401} == {
                ("GET", f"{stack.api}/health"), ("GET", f"{stack.api}/ready")
            }  # fmt: skip
            assert not any("access-control-allow-origin" in answer.headers for answer in done.values())
        asked = page.options(f"{stack.api}/flows/", headers={"Access-Control-Request-Method": "POST"})
        assert asked.status_code == 400
    own = httpx.post(f"{stack.api}/flows/filter", json={}, auth=tuple(stack.keys["auth"].split(":")))  # type: ignore[arg-type]
    assert own.json() == []


@pytest.mark.slow
@pytest.mark.parametrize("path", SOCKETS)
def test_no_socket_of_the_server_opens_without_its_password(stack: Stack, path: str) -> None:
    url = stack.api.replace("http", "ws", 1) + path
    with pytest.raises(InvalidStatus), connect(url):
        pass
    for token, opens in (("cspipe:guess", False), (stack.keys["auth"], True)):
        with connect(url, subprotocols=[Subprotocol("prefect")]) as socket:
            socket.send(json.dumps({"type": "auth", "token": token}))
            try:
                assert json.loads(socket.recv(timeout=20))["type"] == "auth_success"
                opened = True
            except ConnectionClosed:
                opened = False
            assert opened == opens


@pytest.mark.slow
def test_the_server_of_a_single_run_has_a_password_too(tmp_path: Path) -> None:
    """That of `python -m flows.pipeline`: its database, with the Secret blocks, is the user's."""
    done = run(tmp_path, [sys.executable, "-c", ALONE], PREFECT_HOME=str(tmp_path))
    assert done.stdout.splitlines()[-1:] == ["list 401"], done.stderr


def test_another_program_on_the_servers_port_is_not_the_server(tmp_path: Path) -> None:
    """Its user would be told the password and could give the workers work: the port is free while Prefect starts."""
    with serving(Healthy) as url, subprocess.Popen(["sleep", "60"]) as starting:
        stack = Stack(tmp_path, mark="x", api=f"{url}/api")
        stack.add(processes.as_part(SERVER, starting.pid))
        assert parts.answers(stack.api)
        assert not parts.serves(stack)
        starting.kill()


def test_nobody_answers_at_what_is_no_address() -> None:
    assert not any(map(parts.answers, ("127.0.0.1:4200/api", "http://127.0.0.1:x/api")))


def test_a_password_is_that_of_one_stack(tmp_path: Path) -> None:
    """What still asks at the port of a stack that has ended tells whoever has it then."""
    first, second = Stack(tmp_path, mark="x").keys, Stack(tmp_path, mark="y").keys
    assert first["auth"] != second["auth"]
    assert first["secret_key"] == second["secret_key"]


def test_keys_that_a_folder_has_stay_when_the_password_joins_them(tmp_path: Path) -> None:
    stack = Stack(tmp_path, mark="x")
    stack.folder.mkdir(parents=True)
    (stack.folder / "keys.json").write_text('{"access_key": "a", "secret_key": "b"}')
    made = stack.keys
    assert (made["access_key"], made["secret_key"]) == ("a", "b")
    assert stack.keys == made
    assert (stack.folder / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_refused_password_is_told_as_such() -> None:
    """By a worker before it starts, with a bare name, and by --watch, which would wait for ever."""
    with serving(Refusing) as url, temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        assert "refuses the password" in str(workers._server_problem("cpu"))
        with pytest.raises(UserError, match="refuses the password"):
            plugin._full_name("train-demo", f"{url}/api")

        async def watched() -> None:
            async with PrefectClient(f"{url}/api") as client:
                await watch.watch(client, uuid4(), Console(file=io.StringIO()), timeout=60)

        with pytest.raises(FlowRunWatchError, match="refuses the password"):
            asyncio.run(watched())
