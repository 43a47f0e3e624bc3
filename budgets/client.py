"""A small client of the HTTP API for the commands that post to it: one connection, gzip, plain errors."""

import gzip
import http.client
import json
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


class UnreachableError(Exception):
    """No answer came: nothing listens there, or the connection broke. What was sent may have been stored."""


class RefusedError(Exception):
    """The server answered with an error, in the API's shape or not."""

    def __init__(self, status: int, document: dict[str, Any], retry_after_s: float | None) -> None:
        error = document.get("error") or {}
        self.status = status
        self.document = document
        self.code: str = error.get("code", "")
        self.retry_after_s = retry_after_s  # set where the server says when to come back
        super().__init__(
            f"{status} {self.code}".rstrip() + f": {error.get('message', 'no reason was given')}"
        )

    @property
    def is_busy(self) -> bool:
        """Whether the same request may well succeed later: 429 and 503."""
        return self.status in (429, 503)


class ApiClient:
    """Speaks to the server at ``url`` with a bearer key. Not for several threads at once.

    Every method raises UnreachableError and RefusedError.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected an address like http://127.0.0.1:8000, got {url!r}")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url.rstrip("/")
        self._path = parts.path.rstrip("/") + "/api/v1/"
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        self._connection = connection(parts.hostname, parts.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def get_feature(self, slug: str) -> dict[str, Any] | None:
        """The feature's document, None where the key's team has none of that name."""
        try:
            return self._send("GET", f"features/{slug}")
        except RefusedError as refused:
            if refused.status == 404:
                return None
            raise

    def put_feature(self, slug: str, document: dict[str, Any]) -> dict[str, Any]:
        """Declares a feature and gives its document."""
        body = json.dumps(document).encode()
        return self._send("PUT", f"features/{slug}", body, {"Content-Type": "application/json"})

    def post_measurements(self, body: bytes, *, idempotency_key: str) -> dict[str, Any]:
        """Stores a body of measurements and gives the answer. The same key makes it safe to repeat."""
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "Idempotency-Key": idempotency_key,
        }
        # Level 1: the server is usually near, and the time is ours.
        return self._send("POST", "measurements", gzip.compress(body, compresslevel=1), headers)

    def post_annotation(self, document: dict[str, Any]) -> dict[str, Any]:
        """Marks a deploy or a note. The same once more is no second one."""
        body = json.dumps(document).encode()
        return self._send("POST", "annotations", body, {"Content-Type": "application/json"})

    def _send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        sent = self._headers | (headers or {})
        try:
            status, answer, retry_after = self._exchange(method, path, body, sent)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise UnreachableError(f"{self.url} does not answer: {error or type(error).__name__}") from error
        try:
            document = json.loads(answer)
        except ValueError:
            document = {}
        if not isinstance(document, dict):
            document = {}
        if status >= 300:
            raise RefusedError(status, document, retry_after)
        return document

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, float | None]:
        """One exchange, and a second one where the connection had been idle and the server has closed it."""
        was_open = self._connection.sock is not None
        try:
            self._connection.request(method, self._path + path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._connection.close()
            if not was_open:
                raise
            self._connection.request(method, self._path + path, body, headers)
            response = self._connection.getresponse()
        content = response.read()
        return response.status, content, _seconds(response.getheader("Retry-After"))


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
