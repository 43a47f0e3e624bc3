"""A person with a browser, as far as the server can tell: signs in through the form, keeps the session, fetches."""

from __future__ import annotations

import http.client
import re
import time
from urllib.parse import urlencode

_CSRF_FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class VisitError(Exception):
    """An answer that a person would not call a page. The message shows its beginning."""


class Visitor:
    """Somebody who is signed in, over one kept connection."""

    def __init__(self, port: int, email: str, password: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._cookies: dict[str, str] = {}
        form = self._send("GET", "/login/", expected=200)
        found = _CSRF_FIELD.search(form)
        if found is None:
            raise VisitError(f"Expected a form with a token, got {form[:500]}")
        fields = {"csrfmiddlewaretoken": found[1], "username": email, "password": password}
        self._send("POST", "/login/", urlencode(fields), expected=302)

    def fetch(self, path: str) -> tuple[str, float]:
        """A page, and the milliseconds until all of it was there. Raises VisitError for any but a success."""
        began = time.perf_counter()
        page = self._send("GET", path, expected=200)
        return page, (time.perf_counter() - began) * 1e3

    def close(self) -> None:
        self._connection.close()

    def _send(self, method: str, path: str, body: str | None = None, *, expected: int) -> str:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        if response.status != expected:
            raise VisitError(
                f"{method} {path} was answered by {response.status}, expected {expected}: {content[:500]}"
            )
        return content
