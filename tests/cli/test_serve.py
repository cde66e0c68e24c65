"""`cspipe serve`: who may use it, and what it draws; in a real browser too."""

import base64
import http.client
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cspipe.cli.serve import LARGEST, STRANGERS, Handler, Server, Studio, serve
from cspipe.runtime.errors import UserError
from cspipe.runtime.models import FILE
from tests.cli.browser import CHROMIUM, browser
from tests.conftest import Tree
from tests.exchange.conftest import Stored, stored  # noqa: F401 (a fixture)

ASKED = {"seed": 3, "count": 2, "steps": 5, "sampler": "ddim", "eta": 0.0, "compensation": False}


@contextmanager
def serving(models: Path) -> Iterator[Server]:
    server = Server(Studio(models), 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
    """An answer; `headers` replace those of the page, and "" leaves one out."""
    port = server.server_port
    right = {"Host": f"127.0.0.1:{port}", "X-Token": server.token, "Content-Length": str(len(body))}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.putrequest(method, path, skip_host=True)
    for name, value in (right | {name.replace("_", "-"): text for name, text in headers.items()}).items():
        if value:
            connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse()


@pytest.mark.parametrize(
    "wrong",
    [
        {"Host": "attacker.example:80"}, {"Host": ""}, {"X_Token": "guess"}, {"X_Token": ""}, {"X_Token": "\xff"},
        {"Origin": "http://attacker.example"}, {"Origin": "null"}, {"Content_Length": str(LARGEST + 1)},
        {"Content_Length": "-1"}, {"Content_Length": "all"}, {"Content_Length": "0" * 20 + "9" * 20},
    ],
)  # fmt: skip
def test_nobody_else_draws(wrong: dict[str, str], tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert ask(server, "POST", "/draw", b"{}", **wrong).status == 403
        if "Content_Length" not in wrong:
            assert ask(server, "GET", "/model", **wrong).status == 403


def test_before_a_training_it_says_what_is_missing(
    small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(small))
    Path("dvc.yaml").touch()
    with pytest.raises(UserError, match="run `dvc repro train`"):
        serve()
    with pytest.raises(UserError, match="give the folder above it, models"):
        serve(Path("models/main"))


def test_a_body_as_deep_as_no_page_sends_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert "error" in json.loads(ask(server, "POST", "/draw", b"[" * 10**5).read())


def test_the_page_has_no_secret_and_runs_nothing_of_others(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answer = ask(server, "GET", "/", X_Token="")
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert server.token not in page
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "://" not in page
        assert ask(server, "GET", "/", Host="attacker.example").status == 403
        assert ask(server, "GET", "/../serve.py").status == 403
        assert ask(server, "OPTIONS", "/draw").status == 501  # what a browser asks before another site's page may
        with pytest.raises(OSError, match="in use"):
            Server(server.studio, server.server_port)


def test_idle_connections_keep_nobody_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The oldest are shut out, in the middle of a request too, and nothing is told of them."""
    with serving(tmp_path) as server:
        before = threading.active_count()
        idle = []
        for _ in range(3 * STRANGERS):
            idle.append(socket.create_connection(("127.0.0.1", server.server_port), timeout=10))
            idle[-1].sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert ask(server, "GET", "/").status == 200
        with suppress(ConnectionError):
            assert idle[0].recv(1) == b""
        assert threading.active_count() <= before + STRANGERS + 8  # some that are about to end
        idle[-1].sendall(f"127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert idle[-1].recv(100).startswith(b"HTTP/1.0 200")
        for each in idle:
            each.close()
    assert capfd.readouterr().err == ""


def test_silence_ends_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "timeout", Handler.timeout / 300)
    with serving(tmp_path) as server, socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as idle:
        assert idle.recv(1) == b""


@pytest.fixture
def models(stored: Stored, small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A folder with both nets, beside a params.yaml that says what to compute on."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(small))
    return stored()


def draw(server: Server, **changes: Any) -> list[dict[str, Any]]:
    lines = ask(server, "POST", "/draw", json.dumps(ASKED | changes).encode()).read().splitlines()
    return [json.loads(line) for line in lines]


def pixels(png: str) -> NDArray[np.uint8]:
    """Images (N, C, H, W) of a strip."""
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
    return np.stack(np.split(strip, strip.shape[1] // strip.shape[0], axis=1)).transpose(0, 3, 1, 2)


def png(image: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_requests_at_the_same_time_are_all_drawn(models: Path) -> None:
    """As of a page where the switch is moved and then a button pressed."""
    with serving(models) as server, ThreadPoolExecutor(8) as threads:
        lines = threads.map(lambda seed: draw(server, seed=seed, steps=1, compensation=True)[-1], range(8))
        assert [list(line) for line in lines] == [["images"]] * 8


def test_every_step_is_told_and_a_model_trained_anew_is_not_mixed_with_the_one_shown(models: Path) -> None:
    """C is read again for each request: with the net before it would not be the C of the two."""
    with serving(models) as server:
        *steps, last = draw(server)
        assert [(step["t"], step["done"]) for step in steps] == [(10, 1), (8, 2), (6, 3), (4, 4), (2, 5)]
        assert "images" in last
        os.utime(models / "main" / FILE)
        assert "another model" in draw(server)[-1]["error"]


def test_a_hole_is_filled_and_nothing_else_changes(models: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    hole = np.zeros((8, 8), np.uint8)
    hole[4:] = 255
    with serving(models) as server:
        last = draw(server, image=png(given), hole=png(hole))[-1]
    for image in pixels(last["images"]).transpose(0, 2, 3, 1):
        assert (image[:4] == given[:4]).all()
        assert (image[4:] != given[4:]).any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 11}, "11"), ({"steps": "many"}, "integer"), ({"sampler": "../../x"}, "ddim"),
        ({"count": 1000}, "count"), ({"seed": -1}, "seed"), ({"seed": float("inf")}, "not what the page asks"),
        ({"hole": png(np.zeros((8, 8), np.uint8)), "image": "AAAA"}, "needs an image"),
        ({"sampler": "ddpm", "eta": 1.0, "compensation": True}, "eta"), ({"eta": None}, "not what the page asks"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line(changes: Tree, says: str, models: Path) -> None:
    with serving(models) as server:
        [line] = draw(server, **changes)
    assert says in line["error"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_in_a_browser(models: Path, tmp_path: Path) -> None:
    first = "document.querySelector('#gallery canvas').toDataURL()"
    with serving(models) as server, browser(tmp_path, f"{server.url}/#{server.token}") as tab:
        tab.size(1200, 900)  # all of it in sight of the mouse
        tab.until("document.body?.dataset.done == 1")
        plain = tab.js(first)
        tab.js("document.getElementById('compensation').click()")
        tab.until("document.body.dataset.done == 2")
        assert tab.js(first) != plain
        tab.js("at.value = 0; at.oninput()")
        tab.until(f"atOut.value == 't = 10' && {first} != {json.dumps(plain)}")
        tab.js("document.querySelector('#gallery canvas').click()")
        left, top, side = tab.js("(box => [box.left, box.top, box.width])(mask.getBoundingClientRect())")
        tab.drag((left + 0.3 * side, top + 0.5 * side), (left + 0.7 * side, top + 0.5 * side))
        tab.js("fill.click()")
        tab.until("document.body.dataset.done == 3")
        for width in (1200, 390):
            tab.size(width, 800)
            assert tab.js("document.documentElement.scrollWidth") <= width
        assert "rong" not in tab.js("said.className")
