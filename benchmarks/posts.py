"""A client that costs as little as can be: requests are bytes made beforehand, over one kept connection."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from itertools import cycle

from .traffic import Batch

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S = 60.0


class PostError(Exception):
    """An answer that was not 200, with its status. The message shows its beginning."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Poster:
    """Posts batches to one path in turn, each when the one before was answered."""

    def __init__(self, port: int, path: str, token: str, batches: Sequence[Batch]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A batch that is posted several times is held once.
        requests = {batch: _request(path, token, batch.body) for batch in dict.fromkeys(batches)}
        self._requests = cycle([(requests[batch], len(batch)) for batch in batches])

    def __call__(self) -> int:
        """Posts the next batch; how many measurements it held. Raises PostError where it was not stored."""
        request, size = next(self._requests)
        self._socket.sendall(request)
        status, answer = self._answer()
        if status != 200 or b'"accepted":%d' % size not in answer:
            raise PostError(
                f"Expected 200 and {size} accepted, got {status}: {answer[:500].decode()}", status
            )
        return size

    def close(self) -> None:
        self._socket.close()

    def _answer(self) -> tuple[int, bytes]:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head, content = received[: end + 2], received[end + 4 :]
        found = _LENGTH.search(head)
        if found is None:
            raise PostError(f"Expected an answer with its length, got {head.decode(errors='replace')}")
        while len(content) < int(found[1]):
            content += self._receive()
        return int(head.split(b" ", 2)[1]), content

    def _receive(self) -> bytes:
        part = self._socket.recv(65_536)
        if not part:
            raise PostError("The server closed the connection.")
        return part


def _request(path: str, token: str, body: bytes) -> bytes:
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
