"""A real HTTP server that plays the customer's side of a channel."""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest


@dataclass(frozen=True)
class ReceivedRequest:
    """`arrived_s` is time.monotonic() once the body was complete, which other processes here share."""

    method: str
    path: str
    headers: Headers  # names in any case
    body: bytes
    arrived_at: datetime
    arrived_s: float

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Reply:
    """What the receiver answers. `script` writes to the connection itself: what no server would send."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    script: Callable[[Exchange], None] | None = None


@dataclass(frozen=True)
class Exchange:
    """One connection in the hands of a script."""

    send: Callable[[bytes], None]
    closing: threading.Event

    def hang(self) -> None:
        """Says nothing more until the receiver is closed."""
        self.closing.wait()

    def drip(self, content: bytes, *, every_s: float) -> None:
        """Sends a byte at a time until all are sent, the other side leaves or the receiver is closed."""
        for byte in content:
            self.send(bytes([byte]))
            if self.closing.wait(every_s):
                return


HANG = Reply(script=Exchange.hang)


class WebhookReceiver:
    """Records every request at 127.0.0.1 and answers as it was told, else 204.

    with WebhookReceiver() as receiver:
        receiver.answer(Reply(503), Reply(429, {"Retry-After": "2"}))  # the first two; then 204
        ...
        first, second, third = receiver.wait_for(3, timeout_s=10)
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._arrival = threading.Condition()
        self._requests: list[ReceivedRequest] = []
        self._replies: deque[Reply] = deque()
        self._default = Reply()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        if tls is not None:
            # The handshake happens in the connection's own thread, at its first read.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="webhook receiver",
            daemon=True,
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What has arrived so far, in order of arrival."""
        with self._arrival:
            return list(self._requests)

    def answer(self, *replies: Reply) -> None:
        """The answers to the next requests, one each, after those already waiting."""
        with self._arrival:
            self._replies.extend(replies)

    def answer_always(self, reply: Reply) -> None:
        """The answer to every request for which none is waiting."""
        with self._arrival:
            self._default = reply

    def wait_for(
        self,
        count: int,
        timeout_s: float = 10.0,
        *,
        where: Callable[[ReceivedRequest], bool] = lambda request: True,
    ) -> list[ReceivedRequest]:
        """The requests (those for which `where` holds) once there are `count`; else fails with what came."""

        def matching() -> list[ReceivedRequest]:
            return [request for request in self._requests if where(request)]

        with self._arrival:
            if not self._arrival.wait_for(lambda: len(matching()) >= count, timeout_s):
                came = [
                    f"{request.method} {request.path} {request.body[:300]!r}" for request in self._requests
                ]
                pytest.fail(f"{count} requests were awaited for {timeout_s} s; there came {came}")
            return matching()

    def clear(self) -> None:
        """Forgets what has arrived."""
        with self._arrival:
            self._requests.clear()

    def close(self) -> None:
        """Ends the server and every connection that hangs. Repeating is harmless."""
        if not self._closing.is_set():
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()  # joins the threads of all connections
            self._thread.join()

    def __enter__(self) -> WebhookReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, request: ReceivedRequest) -> Reply:
        with self._arrival:
            self._requests.append(request)
            self._arrival.notify_all()
            return self._replies.popleft() if self._replies else self._default


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing joins them, and no test leaves one behind
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is what some tests are about; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # a client that connects and says nothing holds up no test run

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            reply = receiver._record(
                ReceivedRequest(
                    self.command, self.path, self.headers, content, datetime.now(tz=UTC), time.monotonic()
                )
            )
            self.close_connection = True
            if reply.script is not None:
                reply.script(Exchange(self._send, receiver._closing))
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST  # noqa: N815 (http.server looks these names up)

        def _send(self, content: bytes) -> None:
            self.wfile.write(content)
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Tests read the requests, not a log."""

    return Handler


@pytest.fixture
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """A receiver of this test alone; its `url` is at 127.0.0.1, which has to be allowed to be reached."""
    with WebhookReceiver() as receiver:
        yield receiver
