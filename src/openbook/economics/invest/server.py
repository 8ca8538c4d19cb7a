"""The page with dials on loopback: one page, one script, one question that can be asked of the Python code.

    GET  /           the page
    GET  /dials.js   the script that moves the dials
    POST /answer     {"dial": value, ...} -> {"parts": {id: html}, "figures": {...}}, or {"error": "one line"}

Loopback is reachable by every page that the user's browser has open, so a request must name this server in
its `Host` (which a page that has been rebound to 127.0.0.1 cannot) and, where it states an origin, come from
this page. Bodies are small, slow senders are dropped, and one answer is computed at a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, ClassVar

from openbook.errors import UserError

LOOPBACK = "127.0.0.1"
SCRIPT_PATH = "/dials.js"
MAX_BODY_BYTES = 4096
SOCKET_SECONDS = 10.0
"""A client that sends or takes nothing for so long is dropped."""
ANSWER_SECONDS = 20.0
"""An answer that is not there by then is refused; it waits for those before it, too."""
MAX_CONNECTIONS = 16

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Reply = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What is served: the page as text, and what answers to the positions of the dials.

    `answer` raises UserError for positions that it cannot take.
    """

    page: str
    answer: Callable[[Mapping[str, float]], Reply]
    answer_seconds: float = ANSWER_SECONDS


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 from its making on; `serve_forever` answers, `close` stops."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, site: Site, port: int) -> None:
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OverflowError:
            raise UserError(f"there is no port {port}", "give one up to 65535, or 0 for a free one") from None
        except OSError as error:
            raise UserError(
                f"port {port} cannot be listened on: {error.strerror}", "give another, or 0 for a free one"
            ) from None
        self.site = site
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answer")
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/"

    @property
    def names(self) -> frozenset[str]:
        """What a request may call this server in its `Host`."""
        return frozenset(f"{name}:{self.port}" for name in (LOOPBACK, "localhost"))

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; what goes wrong inside an answer is answered with 500."""

    def close(self) -> None:
        self.server_close()
        self.worker.shutdown(wait=False, cancel_futures=True)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout: ClassVar[float] = SOCKET_SECONDS
    server_version = "openbook"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, how: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_host()
            kind, body = how()
        except _Refused as refused:
            status, kind, body = refused.status, *_json({"error": str(refused)})
        except UserError as error:
            status, kind, body = HTTPStatus.UNPROCESSABLE_ENTITY, *_json({"error": str(error)})
        except Exception as error:
            # The window of the command is the log of this server, and a page shows no traceback.
            self.log_error("%s: %s", type(error).__name__, error)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, *_json({"error": "a defect of openbook"})
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _check_host(self) -> None:
        if self.headers.get_all("Host") not in [[name] for name in self.server.names]:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, f"this is {self.server.url} and nothing else")

    def _get(self) -> tuple[str, bytes]:
        if self.path == "/":
            return "text/html; charset=utf-8", self.server.site.page.encode()
        if self.path == SCRIPT_PATH:
            return "text/javascript; charset=utf-8", _script()
        raise _Refused(HTTPStatus.NOT_FOUND, "there is the page alone, at /")

    def _post(self) -> tuple[str, bytes]:
        if self.path != "/answer":
            raise _Refused(HTTPStatus.NOT_FOUND, "questions are asked at /answer")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in self.server.names}:
            raise _Refused(HTTPStatus.FORBIDDEN, "only this server's own page may ask")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, as application/json")
        dials = _dials(self._body())
        site, waiting = self.server.site, self._submit(dials)
        try:
            return _json(waiting.result(timeout=site.answer_seconds))
        except TookTooLong:
            waiting.cancel()
            why = f"no answer within {site.answer_seconds:g} s; ask again, or with fewer --paths"
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, why) from None

    def _submit(self, dials: Mapping[str, float]) -> Future[Reply]:
        return self.server.worker.submit(self.server.site.answer, dials)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "say the Content-Length")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes")
        return self.rfile.read(int(length))

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing of what went well."""


def _dials(body: bytes) -> dict[str, float]:
    """`{"name": number, ...}`. Raises _Refused for anything else."""
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Refused(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(found, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
        for value in found.values()
    ):
        raise _Refused(HTTPStatus.BAD_REQUEST, 'send {"dial": number, ...}')
    return {str(name): float(value) for name, value in found.items()}


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _json(value: Reply) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, allow_nan=False, default=str).encode()


@cache
def _script() -> bytes:
    return files("openbook.economics.invest").joinpath("dials.js").read_bytes()
