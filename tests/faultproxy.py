"""An HTTP proxy that misbehaves on demand, to stand between a client and an object store."""

from __future__ import annotations

import enum
import http.client
import socket
import struct
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOWNESS = 0.1  # seconds between the pieces of a slow body


class Fault(enum.Enum):
    """What happens to one request."""

    ERROR_500 = "500 InternalError, not forwarded"
    SLOW_DOWN = "503 SlowDown, not forwarded"
    CONFLICT = "409 ConditionalRequestConflict, not forwarded"
    EXPIRED = "400 ExpiredToken, not forwarded"
    SKEWED = "403 RequestTimeTooSkewed, not forwarded"
    DENIED = "403 AccessDenied, not forwarded"
    RESET = "connection reset, not forwarded"
    DROP_ANSWER = "forwarded and carried out, the answer lost"
    CUT_BODY = "forwarded, the answer's body cut in half"
    SLOW_BODY = "forwarded, the answer's body sent bit by bit"
    FORGET_CONDITION = "forwarded without its If-None-Match"


_ANSWERS = {
    Fault.ERROR_500: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.EXPIRED: (400, "ExpiredToken"),
    Fault.SKEWED: (403, "RequestTimeTooSkewed"),
    Fault.DENIED: (403, "AccessDenied"),
}


class FaultProxy:
    """Forwards HTTP/1.1 to upstream (``http://host:port``), with faults; a context manager.

    choose: called with (method, path) of every request, returns its fault or None. By default the faults given to
    `script` are used up in order, one a request of the scripted method. `seen` counts the requests by method, `done`
    the faults.
    """

    def __init__(self, upstream: str, choose: Callable[[str, str], Fault | None] | None = None) -> None:
        self.upstream = urlsplit(upstream)
        self.seen: Counter[str] = Counter()
        self.done: Counter[Fault] = Counter()
        self._choose = choose or self._scripted
        self._script: deque[tuple[str, Fault]] = deque()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, method: str, *faults: Fault) -> None:
        """Let the next requests of this method fail so, in order."""
        self._script.extend((method, fault) for fault in faults)

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault of this request, counted."""
        with self._lock:
            self.seen[method] += 1
            fault = self._choose(method, path)
            if fault:
                self.done[fault] += 1
            return fault

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _scripted(self, method: str, _path: str) -> Fault | None:
        if self._script and self._script[0][0] == method:
            return self._script.popleft()[1]
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    proxy: FaultProxy

    def handle_error(self, *_: Any) -> None:
        """Say nothing when a client is gone in the middle of a request."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.proxy.fault(self.command, self.path)
        if fault is Fault.RESET:
            self._cut_connection()
            return
        if fault in _ANSWERS:
            status, code = _ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>scripted</Message></Error>"
            self._answer(status, [("Content-Type", "application/xml")], text.encode())
            return
        try:
            status, headers, answer = self._forward(body, forget=fault is Fault.FORGET_CONDITION)
        except OSError:  # the server is down
            self._cut_connection()
            return
        if fault is Fault.DROP_ANSWER:
            self._cut_connection()
        elif fault is Fault.CUT_BODY:
            self._answer(status, headers, answer, send=len(answer) // 2)
            self._cut_connection()
        else:
            self._answer(status, headers, answer, pieces=5 if fault is Fault.SLOW_BODY else 1)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815

    def _forward(self, body: bytes, *, forget: bool) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # Host too, since it is signed
                if name.lower() not in {"connection", "expect"} and not (forget and name.lower() == "if-none-match"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, send: int | None = None, pieces: int = 1
    ) -> None:
        self.send_response_only(status)
        has_length = any(name.lower() == "content-length" for name, _ in headers)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(name, value)
        if not has_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            size = max(1, -(-len(body) // pieces))
            for start in range(0, len(body[:send]), size):
                self.wfile.write(body[:send][start : start + size])
                self.wfile.flush()
                time.sleep(SLOWNESS if pieces > 1 else 0.0)

    def _cut_connection(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Say nothing on the terminal."""
