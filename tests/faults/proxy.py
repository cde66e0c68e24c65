"""A proxy in front of a real S3 server, with the faults of networks and stores in a seeded order."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSALS = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests", "400": "ExpiredToken"}
FAULTS = ("slow", "reset before", "reset in request", "reset in answer", "lost answer", "wrong etag", *REFUSALS)
DOCUMENT = "<?xml version='1.0'?><Error><Code>{}</Code><Message>a fault</Message></Error>"


class Proxy:
    """Passes requests on, as they are signed; `share` of them meets a fault of `faults`, drawn in a seeded order."""

    def __init__(self, port: int, share: float, seed: int, faults: tuple[str, ...] = FAULTS) -> None:
        self.upstream, self.share, self.faults = port, share, faults
        self.fired: Counter[str] = Counter()
        self.asked = 0
        self._chance, self._lock = random.Random(seed), threading.Lock()
        proxy = self

        class Handler(_Handler):
            of = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *arguments: None  # type: ignore[method-assign]  # clients that are killed
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it; connections that are open end with the tests."""
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self) -> str:
        """The fault of this request; "" for none."""
        with self._lock:
            self.asked += 1
            fault = self._chance.choice(self.faults) if self._chance.random() < self.share else ""
            self.fired.update([fault] if fault else [])
            return fault


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    of: Proxy

    def _serve(self) -> None:
        fault = self.of.next_fault()
        if fault == "reset before":
            return self._reset()
        length = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        if fault == "reset in request" and length:
            self.rfile.read(length // 2)
            return self._reset()
        body = self.rfile.read(length)
        if fault in REFUSALS:
            return self._answer(int(fault), {}, DOCUMENT.format(REFUSALS[fault]).encode())
        if fault == "slow":
            time.sleep(1)
        status, headers, content = self._ask(body)
        if fault == "lost answer":
            return self._reset()
        if fault == "wrong etag" and "ETag" in headers:
            headers["ETag"] = '"00000000000000000000000000000000"'
        half = len(content) // 2 if fault == "reset in answer" else None
        self._answer(status, headers, content, half)
        return None

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The store's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.of.upstream, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name not in ("Expect", "Connection"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        left_out = ("Transfer-Encoding", "Connection", "Content-Length")
        headers = {name: value for name, value in answer.getheaders() if name not in left_out}
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        return answer.status, headers | ({"Content-Length": length} if length else {}), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, half: int | None = None) -> None:
        """Send an answer, of its body only a half and then a reset if asked for."""
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content[:half])
        if half is not None:
            self._reset()

    def _reset(self) -> None:
        """The connection is reset, as by a machine that is gone."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve
