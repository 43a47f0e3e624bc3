"""Bodies without a Content-Length: through the application's wrapper alone, and through a real server."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from django.conf import settings

from budgets.models import Feature
from latency_dashboard.chunked import AcceptChunkedBodies
from tests.api import Api
from tests.budgets import stored
from tests.children import eventually
from tests.factories import feature_document, item, make_feature, make_key, make_team
from tests.latency_dashboard.web import web_server

MIB = 1024 * 1024


# -- the wrapper ------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A body that never ends, and how much of it was read."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.given += size
        return b"x" * size


def through_wrapper(environ: dict[str, Any]) -> dict[str, Any]:
    """The environ that the application gets."""
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.update(environ)
        return []

    AcceptChunkedBodies(application)(environ, lambda *arguments: None)
    return seen


def test_a_chunked_body_gets_its_length() -> None:
    seen = through_wrapper({"HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input": io.BytesIO(b"abc")})
    assert (seen["CONTENT_LENGTH"], seen["wsgi.input"].read()) == ("3", b"abc")


def test_an_endless_chunked_body_is_read_to_one_byte_beyond_the_limit() -> None:
    body = Endless()
    seen = through_wrapper({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": body})
    assert body.given == settings.INGEST_MAX_WIRE_BYTES + 1
    assert seen["CONTENT_LENGTH"] == str(body.given)


def test_a_body_with_a_length_is_left_alone() -> None:
    body = Endless()
    environ = {"CONTENT_LENGTH": "5", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": body}
    assert through_wrapper(environ) == environ
    assert body.given == 0


def test_a_request_without_a_body_is_left_alone() -> None:
    body = Endless()
    assert "CONTENT_LENGTH" not in through_wrapper({"wsgi.input": body})
    assert body.given == 0


# -- a real server ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port(django_db_setup: None) -> Iterator[int]:
    with web_server() as port:
        yield port


@pytest.fixture
def feature(transactional_db: None) -> Feature:
    return make_feature(team=make_team())


@pytest.fixture
def token(feature: Feature) -> str:
    return make_key(feature.team)[1]


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    yield client
    client.close()


def now_item(feature: Feature) -> dict[str, Any]:
    """The server's clock is the real one."""
    return item(feature, started_at=datetime.now(UTC).isoformat())


def send(
    client: http.client.HTTPConnection,
    token: str,
    body: bytes | Iterable[bytes],
    *,
    method: str = "POST",
    path: str = "measurements",
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    """Sends bytes with their length, an iterable in chunks; gives the status and the document."""
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    is_chunked = not isinstance(body, bytes)
    if is_chunked:
        sent["Transfer-Encoding"] = "chunked"
    client.request(method, f"/api/v1/{path}", body, sent, encode_chunked=is_chunked)
    response = client.getresponse()
    return response.status, json.loads(response.read())


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [7, 1000, 100_000])
def test_a_chunked_post_is_stored(
    client: http.client.HTTPConnection, feature: Feature, token: str, size: int
) -> None:
    body = msgspec.json.encode({"measurements": [now_item(feature)] * 100})
    status, document = send(client, token, pieces(body, size))
    assert (status, document["accepted"]) == (200, 100)
    assert len(stored.measurements(feature)) == 100


def test_a_chunked_gzip_post_is_stored(
    client: http.client.HTTPConnection, feature: Feature, token: str
) -> None:
    body = gzip.compress(msgspec.json.encode({"measurements": [now_item(feature)] * 100}))
    status, document = send(client, token, pieces(body, 50), content_encoding="gzip")
    assert (status, document["accepted"]) == (200, 100)


def test_a_chunked_put_declares_a_feature(
    client: http.client.HTTPConnection, feature: Feature, token: str
) -> None:
    body = msgspec.json.encode(feature_document(name="Chunked"))
    status, document = send(client, token, pieces(body, 100), method="PUT", path="features/chunked")
    assert (status, document["name"]) == (201, "Chunked")


def test_a_chunked_body_of_exactly_the_limit_is_accepted(
    client: http.client.HTTPConnection, feature: Feature, token: str
) -> None:
    body = msgspec.json.encode({"measurements": [now_item(feature)]})
    status, _ = send(client, token, pieces(body + b" " * (MIB - len(body)), 65_536))
    assert status == 200


@pytest.mark.parametrize("mib", [1, 3])
def test_a_chunked_body_over_the_limit_is_refused(
    client: http.client.HTTPConnection, feature: Feature, token: str, mib: int
) -> None:
    body = msgspec.json.encode({"measurements": [now_item(feature)]})
    try:
        status, document = send(client, token, pieces(body + b" " * mib * MIB, 65_536))
    except ConnectionError:
        pytest.fail("the server closed the connection instead of answering")
    assert (status, document["error"]["code"]) == (413, "body_too_large")
    assert stored.measurements(feature) == []


def test_the_connection_serves_the_next_request_after_a_refused_one(
    client: http.client.HTTPConnection, feature: Feature, token: str
) -> None:
    assert send(client, token, pieces(b"x" * (MIB + 1), 65_536))[0] == 413
    body = msgspec.json.encode({"measurements": [now_item(feature)]})
    assert send(client, token, pieces(body, 50))[0] == 200


def raw(port: int, token: str, *lines: str) -> socket.socket:
    """A connection on which a POST with these headers, and whatever follows them, has been sent."""
    head = [
        "POST /api/v1/measurements HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
    ]
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall("\r\n".join([*head, *lines]).encode())
    return connection


def answer_on(connection: socket.socket) -> tuple[int, str]:
    """The status and the error's code."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())["error"]["code"]


def test_a_body_that_announces_too_much_is_refused_before_it_comes(port: int, token: str) -> None:
    with raw(port, token, f"Content-Length: {10**10}", "", "") as connection:
        assert answer_on(connection) == (413, "body_too_large")


def test_a_body_that_never_ends_is_refused_once_it_is_over_the_limit(port: int, token: str) -> None:
    with raw(port, token, "Transfer-Encoding: chunked", "", "") as connection:
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        for _ in range(MIB // 65_536 + 1):
            connection.sendall(chunk)
        assert answer_on(connection) == (413, "body_too_large")


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 100000", "", '{"measurements":['),
        ("Transfer-Encoding: chunked", "", '11\r\n{"measurements":[\r\n'),
    ],
    ids=["with a length", "chunked"],
)
def test_a_body_that_breaks_off_is_not_stored_and_harms_nobody(
    port: int, client: http.client.HTTPConnection, feature: Feature, token: str, lines: tuple[str, ...]
) -> None:
    raw(port, token, *lines).close()
    body = msgspec.json.encode({"measurements": [now_item(feature)]})
    assert send(client, token, body)[0] == 200
    assert eventually(lambda: len(stored.measurements(feature)) == 1)


def test_what_the_server_stored_is_seen_by_the_api_in_this_process(
    client: http.client.HTTPConnection, feature: Feature, token: str
) -> None:
    body = msgspec.json.encode({"measurements": [now_item(feature)]})
    assert send(client, token, body, idempotency_key="a")[0] == 200
    again = Api(feature.team, token).post(body, idempotency_key="a")
    assert again.get("Idempotent-Replay") == "true"
