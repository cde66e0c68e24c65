"""`cspipe serve`: a page on this machine to draw samples and fill holes with a trained model, step by step."""

from __future__ import annotations

import base64
import io
import json
import secrets
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from socket import SHUT_RDWR
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspipe.runtime.errors import UserError
from cspipe.runtime.project import check_at_root

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from cspipe.sampling.batches import Sampler
    from cspipe.sampling.correction import Corrected

PAGE = Path(__file__).with_name("serve.html")
LARGEST = 20_000_000
"""Maximum size of a request, in bytes: two images and some numbers."""
MOST = 16
"""Maximum number of images of a request."""
STRANGERS = 32
"""Maximum number of open connections that have not shown the token."""
Emit = Callable[[dict[str, Any]], None]


def serve(
    model: Annotated[Path, typer.Option(help="folder with main/ and compensation/")] = Path("models"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on 127.0.0.1; 0: any free port")] = 8765,
) -> None:
    """Show a page on this machine that samples from a trained model and fills holes, step by step. Ctrl-C ends it."""
    check_at_root()
    if not (model / "main").is_dir():
        above = f"give the folder above it, {model.parent}" if model.name == "main" else "run `dvc repro train`"
        raise UserError(f"{model / 'main'}: no such folder; {above}, or name another with --model")
    studio = Studio(model)
    print(f"{model}: {studio.about['words']}")
    try:
        server = Server(studio, port)
    except OSError as error:
        raise UserError(f"port {port} of 127.0.0.1: {error.strerror}; name another with --port") from None
    print(f"open {server.url}/#{server.token}\nOnly this link opens the page. Ctrl-C stops it.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()


@dataclass
class Studio:
    """A trained model that answers one sampling request at a time."""

    models: Path
    alone: Lock = field(default_factory=Lock)
    shown: tuple[int, int] = (0, 0)
    """Inode and modification time (ns) of the weights file of the main net in memory."""

    @cached_property
    def net(self) -> Any:
        """The opened main net as (device, denoise, config). Raises UserError."""
        from cspipe.config.params_file import load_params
        from cspipe.runtime.device import open_device
        from cspipe.stages.nets import finished_denoiser

        device = open_device(load_params().compute.model_copy(update={"compile": False}))
        self.shown = self._file()
        return device, *finished_denoiser(device, self.models / "main")

    def _file(self) -> tuple[int, int]:
        """Return inode and modification time (ns) of the weights file of the main net; (0, 0) if it is missing."""
        from cspipe.runtime.models import FILE

        with suppress(OSError):
            facts = (self.models / "main" / FILE).stat()
            return facts.st_ino, facts.st_mtime_ns
        return 0, 0

    @cached_property
    def about(self) -> dict[str, Any]:
        """Facts about the model that the page needs. Raises UserError if C is damaged."""
        from cspipe.runtime.files import sha256_file
        from cspipe.runtime.models import FILE, read_config
        from cspipe.runtime.registry import find, names_in
        from cspipe.sampling.state import SAMPLERS

        device, denoise, config = self.net
        weights = sum(each.numel() for each in denoise.net.net.parameters())
        main, C = self.models / "main" / FILE, self.models / "compensation"
        fits = (C / FILE).exists() and read_config(C, "compensate").get("main_sha256") == sha256_file(main)
        return {key: config[key] for key in ("task", "size", "images_seen")} | {
            "native": config["diffusion"]["steps"], "device": device.name, "compensation": fits,
            "etas": {name: find(SAMPLERS, name, "ETAS")[0] for name in names_in(SAMPLERS)},
            "words": f"task {config['task']}, {config['size']} pixels, {weights:,} parameters",
        }  # fmt: skip

    def draw(self, asked: dict[str, Any], emit: Emit) -> None:
        """Sample what the page asks for; emit state and estimate at every call of the net, then the images.

        Raises UserError, or ValueError for values that the page does not send.
        """
        seed, images = int(asked["seed"]), int(asked["count"])
        if not (0 <= seed < 2**62 and 1 <= images <= MOST):
            raise ValueError(f"seed {seed}, count {images}")
        sampler = self._sampler(asked)
        inputs = self._inputs(asked, sampler)
        watched = replace(sampler, net=partial(_watched, sampler, emit))
        with self.alone:
            made = watched(list(range(seed, seed + images)), None if inputs is None else inputs.repeat(images, axis=0))
        emit({"images": _png(made)})

    def _sampler(self, asked: dict[str, Any]) -> Sampler:
        """Return the sampler for the settings that the page sent. Raises UserError."""
        from cspipe.cli.apply import ROUNDS
        from cspipe.exchange.draw import open_variant, variant_of
        from cspipe.stages.nets import usual_terminal

        device, denoise, config = self.net
        main = self.models / "main"
        if self._file() != self.shown:
            raise UserError(f"{main} is another model by now, or gone; start `cspipe serve` again")
        fills = asked.get("hole") is not None and config["task"] == "generate"
        variant = variant_of(
            asked["sampler"], asked["steps"], bool(asked["compensation"]), usual_terminal(denoise, main),
            eta=float(asked["eta"]), repaint={"rounds": ROUNDS, "masks": ["half"]} if fills else None,
        )  # fmt: skip
        return open_variant(variant, denoise, config, device, main, self.models / "compensation")

    def _inputs(self, asked: dict[str, Any], sampler: Sampler) -> NDArray[np.uint8] | None:
        """Return the condition (1, K, H, W) made of the image and its hole; None for noise alone. Raises UserError."""
        from cspipe.data.conditions import masked
        from cspipe.ingest.images import BadImage, Form, decode

        task, (channels, size, _) = self.net[2]["task"], sampler.shape
        if task == "generate" and asked.get("hole") is None:
            return None
        try:
            image = decode(base64.b64decode(asked.get("image") or ""), Form(size, channels, "center"))[None]
            if task == "deocclude":
                return image
            hole = decode(base64.b64decode(asked.get("hole") or ""), Form(size, 1, "center"))[None] >= 128
        except BadImage as error:
            raise UserError(f"the net needs an image{' and a hole' if task != 'deocclude' else ''}: {error}") from None
        return masked(image, hole)


def _watched(sampler: Sampler, emit: Emit, condition: Tensor | None) -> Corrected:
    """Wrap a sampler's net to emit state and estimate at each call, counted up to `calls` (heun makes more)."""
    from cspipe.data.pixels import quantise

    denoise, correction = sampler.net(condition)
    calls, done = (sampler.steps - (sampler.terminal is not None)) * (sampler.rounds or 1), count(1)

    def watched(x_t: Tensor, t: Tensor) -> Tensor:
        """Return the estimate at (x_t, t), and emit it."""
        x0_hat = denoise(x_t, t)
        state, estimate = (_png(quantise(x).cpu().numpy()) for x in (x_t, x0_hat))
        emit({"done": min(next(done), calls), "calls": calls, "t": int(t[0]), "state": state, "estimate": estimate})
        return x0_hat

    return watched, correction


def _png(images: NDArray[np.uint8]) -> str:
    """Encode images (N, C, H, W), side by side, as a PNG in base64."""
    from cspipe.data.grid import grid

    file = io.BytesIO()
    grid(images, len(images), gap=0).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


class Server(ThreadingHTTPServer):
    """HTTP server on 127.0.0.1 that gives clients with the token access to one studio."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, studio: Studio, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.studio, self.token = studio, secrets.token_urlsafe(16)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.strangers: deque[Any] = deque()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection; above STRANGERS, close the oldest without token, so that idle ones block no others."""
        self.strangers.append(request)
        if len(self.strangers) > STRANGERS:
            with suppress(OSError, IndexError):  # it has just been closed
                self.strangers.popleft().shutdown(SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and remove it from those without token."""
        self.admit(request)
        super().shutdown_request(request)

    def admit(self, request: Any) -> None:
        """Remove a connection from those that have not shown the token."""
        with suppress(ValueError):
            self.strangers.remove(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection: the page was closed, or gave up the request. Report other errors as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Handler of requests: GET / is the page, without secrets; GET /model and POST /draw need the token in a header.

    The page of another site cannot send that header without a CORS preflight request, which nothing here answers.
    """

    server: Server
    server_version, sys_version = "cspipe", ""
    timeout = 30.0  # seconds without data from the client

    def do_GET(self) -> None:
        """Answer with the page, or with the facts about the model."""
        if self.path == "/" and self._ours():
            nonce = secrets.token_urlsafe(16)
            inside = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
            policy = f"default-src 'none'; img-src data:; connect-src 'self'; {inside}"
            self._answer(200, "text/html; charset=utf-8", PAGE.read_text("utf-8").replace("NONCE", nonce), policy)
        elif self.path == "/model" and self._allowed():
            self._answer(200, "application/json", json.dumps(self.server.studio.about))
        else:
            self._refuse()

    def do_POST(self) -> None:
        """Answer with lines of JSON while sampling; the last one has the images, or an error."""
        length = self.headers.get("Content-Length") or ""
        fits = length.isdecimal() and len(length) < 9 and int(length) <= LARGEST
        if self.path != "/draw" or not self._allowed() or not fits:
            return self._refuse()
        body = self.rfile.read(int(length))
        self._answer(200, "application/x-ndjson", "")
        try:
            self.server.studio.draw(dict(json.loads(body)), self._emit)
        except (UserError, ArithmeticError, ValueError, TypeError, LookupError, RecursionError) as error:
            self._emit({"error": str(error) if isinstance(error, UserError) else f"not what the page asks: {error!r}"})

    def _emit(self, line: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(line).encode() + b"\n")

    def _ours(self) -> bool:
        """Whether Host is this server's address, not another name that resolves to it, and Origin is no other site."""
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        return f"http://{host}" == self.server.url and origin in (None, self.server.url)

    def _allowed(self) -> bool:
        token = (self.headers.get("X-Token") or "").encode()
        allowed = self._ours() and secrets.compare_digest(token, self.server.token.encode())
        if allowed:
            self.server.admit(self.connection)
        return allowed

    def _refuse(self) -> None:
        self._answer(403, "text/plain", "open the link that `cspipe serve` has printed\n")

    def _answer(self, status: int, kind: str, text: str, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'"),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        """Log nothing: a line per request would not help."""
