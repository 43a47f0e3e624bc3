"""Chunked request bodies for Django under WSGI."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

type_of_app = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class AcceptChunkedBodies:
    """Gives Django the whole of a body that came without a Content-Length.

    Django takes a request without Content-Length for one without a body, so a chunked POST would
    arrive empty. The server has already decoded the chunks; this reads them, at most one byte beyond
    the wire limit, so that the view can tell a body that is too large without holding it.
    """

    def __init__(self, application: type_of_app) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if (
            not environ.get("CONTENT_LENGTH")
            and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        ):
            body = _read_at_most(environ["wsgi.input"], settings.INGEST_MAX_WIRE_BYTES + 1)
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return self.application(environ, start_response)


def _read_at_most(stream: Any, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    while left > 0:
        part = stream.read(min(left, 65536))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
