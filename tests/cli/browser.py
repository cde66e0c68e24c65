"""A real browser without a window: Debian's Chromium, spoken to by its DevTools protocol."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")


class Tab:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.number = socket, 0

    def call(self, method: str, **params: Any) -> Any:
        """What a method of the protocol returns."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=60))).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def js(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        patience = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < patience, (expression, self.js("document.body.innerText"))
            time.sleep(0.2)

    def size(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move along, release."""
        for number, (x, y) in enumerate(points):
            kind = "mousePressed" if number == 0 else "mouseMoved"
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)


@contextmanager
def browser(folder: Path, url: str) -> Iterator[Tab]:
    """A page in a browser of its own, whose data lie in `folder`."""
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
    log = folder / "chromium.log"
    with log.open("wb") as file:
        process = subprocess.Popen([CHROMIUM, *options, f"--user-data-dir={folder}", "about:blank"], stderr=file)
    try:
        patience = time.monotonic() + 60
        while not (found := re.search(r"ws://(127\.0\.0\.1:\d+)/", log.read_text())):
            assert time.monotonic() < patience, log.read_text()
            time.sleep(0.2)
        pages = json.load(urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=30))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with connect(address, max_size=None) as socket:
            tab = Tab(socket)
            tab.call("Page.navigate", url=url)
            yield tab
    finally:
        process.terminate()
        process.wait(20)
