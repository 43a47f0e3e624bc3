"""A client of the product's HTTP API for what is not measured."""

from __future__ import annotations

import http.client
from typing import Any

import msgspec


class ApiError(Exception):
    """An answer that was no success. The message shows its beginning."""


class Api:
    """The HTTP API with a key, over one kept connection."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer. Raises ApiError for any but a success."""
        body = None if document is None else msgspec.json.encode(document)
        self._connection.request(method, f"/api/v1/{path}", body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise ApiError(f"{method} {path} was answered by {response.status}: {answer[:500].decode()}")
        decoded: dict[str, Any] = msgspec.json.decode(answer)
        return decoded

    def close(self) -> None:
        self._connection.close()
