"""The HTTP API as a service sees it: bytes and headers in, status and JSON out, through every middleware."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpResponse
from django.test import Client

from budgets.models import Team


class Api:
    """Speaks for a team. Every method gives the response; `json()` of it is the document."""

    def __init__(self, team: Team, token: str | None) -> None:
        self.team = team
        self._client = Client(raise_request_exception=False)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def with_token(self, token: str | None) -> Api:
        """The same with another key, or with none."""
        return Api(self.team, token)

    def post(
        self,
        body: Any,
        *,
        path: str = "measurements",
        content_type: str = "application/json",
        **headers: str,
    ) -> HttpResponse:
        """Posts bytes as they are, anything else as JSON. `headers`: idempotency_key="…"."""
        return self._client.post(
            f"/api/v1/{path}", _bytes(body), content_type=content_type, headers=self._all(headers)
        )

    def put(self, path: str, body: Any) -> HttpResponse:
        return self._client.put(
            f"/api/v1/{path}", _bytes(body), content_type="application/json", headers=self._headers
        )

    def delete(self, path: str) -> HttpResponse:
        return self._client.delete(f"/api/v1/{path}", headers=self._all({}))

    def get(self, path: str, **query: Any) -> HttpResponse:
        return self._client.get(f"/api/v1/{path}", query, headers=self._headers)

    def _all(self, headers: dict[str, str]) -> dict[str, str]:
        return self._headers | {name.replace("_", "-"): value for name, value in headers.items()}


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else msgspec.json.encode(body)


def error_code(response: HttpResponse) -> str:
    """The code of an error, whose shape is checked on the way."""
    document = response.json()
    error = document["error"]
    assert error.keys() == {"code", "message", "fields"}, document
    assert all(isinstance(messages, list) for messages in error["fields"].values()), document
    assert error["message"], document
    return error["code"]
