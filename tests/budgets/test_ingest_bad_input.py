"""POST /api/v1/measurements: the status and the code of everything that is refused, and that nothing is stored."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import time_machine
from django.conf import settings as django_settings
from django.db import close_old_connections, connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from budgets import ingest, rollups
from budgets.errors import Refusal
from budgets.keys import create_key
from budgets.models import Batch, IngestKey
from tests.api import Api, error_code
from tests.budgets import stored
from tests.budgets.bodies import broken_items, broken_requests
from tests.children import eventually
from tests.factories import NOW, item, make_feature, make_key, make_team, request_item

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def _chat(api: Api) -> None:
    make_feature(team=api.team, slug="chat")


# -- 400 --------------------------------------------------------------------------------------------

GOOD = msgspec.json.encode(item("chat"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"not json", "malformed_json"),
        (b'{"measurements":[' + GOOD, "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":NaN}]}', "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":Infinity}]}', "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[" * 10_000 + b"]" * 10_000, "invalid_body"),
        (b"[]", "invalid_body"),
        (b'{"measurements":{}}', "invalid_body"),
        (b'{"measurements":true}', "invalid_body"),
        (b"{}", "empty_body"),
        (b'{"measurements":[],"requests":[]}', "empty_body"),
        (b'{"measurments":[1]}', "empty_body"),
        (b'{"measurements":[{}]}', "nothing_usable"),
        (b'{"measurements":[[]]}', "nothing_usable"),
        (b'{"requests":[{"feature":"chat"}]}', "nothing_usable"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":1e400}]}', "nothing_usable"),
        (b'{"measurements":[' + GOOD[:-1] + b',"release":"\\u0000"}]}', "nothing_usable"),
        (b'{"measurements":[' + GOOD[:-1] + b',"release":"\\ud800"}]}', "nothing_usable"),
        (b'{"measurements":[' + GOOD[:-1] + b',"release":"\xff"}]}', "nothing_usable"),
        (
            b'{"measurements":[' + GOOD[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}]}",
            "nothing_usable",
        ),
    ],
    ids=lambda one: str(one)[-70:],
)
def test_a_body_with_nothing_usable_is_refused_with_its_reason(api: Api, body: bytes, code: str) -> None:
    feature = make_feature(team=api.team, slug="chat")
    response = api.post(body)
    assert (response.status_code, error_code(response)) == (400, code)
    assert stored.measurements(feature) == []
    assert not Batch.objects.exists()


def test_where_every_item_was_refused_the_answer_says_why_for_each(api: Api) -> None:
    response = api.post({"measurements": [item("ghost"), 1], "requests": [{}]})
    assert response.status_code == 400
    document = response.json()
    assert document.keys() == {"error", "rejected"}
    assert [(one["in"], one["index"], one["code"]) for one in document["rejected"]] == [
        ("measurements", 0, "unknown_feature"),
        ("measurements", 1, "invalid_item"),
        ("requests", 0, "missing_field"),
    ]


def test_an_empty_body_has_an_empty_list_of_reasons(api: Api) -> None:
    assert api.post({}).json()["rejected"] == []


@pytest.mark.parametrize(
    "field", ["feature", "component", "milestone", "environment", "release", "status", "trace_id", "span_id"]
)
def test_u0000_refuses_the_item_in_every_text_field(api: Api, field: str) -> None:
    feature = make_feature(team=api.team)
    where = {"milestone": ...} if field != "milestone" else {"component": ...}
    wrong = {
        name: value for name, value in (item(feature) | where | {field: "a\0b"}).items() if value is not ...
    }
    response = api.post({"measurements": [item(feature), wrong]})
    assert response.status_code == 200
    assert [(one["index"], one["code"]) for one in response.json()["rejected"]] == [(1, "invalid_text")]


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(broken_items, max_size=3), st.lists(broken_requests, max_size=3), st.booleans())
@pytest.mark.usefixtures("_chat")
def test_no_body_makes_the_server_fail(
    api: Api, measurements: list[Any], requests: list[Any], has_good: bool
) -> None:
    body = {"measurements": [*measurements, *([item("chat")] if has_good else [])], "requests": requests}
    response = api.post(body)
    assert response.status_code in (200, 400)
    assert response.status_code == 200 or not has_good
    document = response.json()
    refused = {(one["in"], one["index"]) for one in document.get("rejected", [])}
    assert len(refused) == len(document.get("rejected", []))
    assert len(refused) <= len(measurements) + len(requests)


# -- 401 and 403 ------------------------------------------------------------------------------------


def test_no_key_is_unauthorised(api: Api) -> None:
    response = api.with_token(None).post({"measurements": []})
    assert (response.status_code, error_code(response)) == (401, "unauthorized")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "ld_",
        "ld_aaaaaaaa",
        "ld_aaaaaaaa_",
        "ld_aaaaaaaa_" + "b" * 40,
        "xx_aaaaaaaa_b",
        "é_aaaaaaaa_b",
        "x" * 5000,
    ],
)
def test_a_token_that_is_no_key_is_unauthorised(api: Api, token: str) -> None:
    assert api.with_token(token).post({"measurements": []}).status_code == 401


def test_a_key_in_another_scheme_is_unauthorised(api: Api) -> None:
    _, token = make_key(api.team)
    response = api.with_token(None).post({}, authorization=f"Basic {token}")
    assert response.status_code == 401


def test_the_right_prefix_with_another_secret_is_unauthorised(api: Api) -> None:
    key, _ = make_key(api.team)
    assert api.with_token(f"ld_{key.prefix}_{'x' * 40}").post({}).status_code == 401


def test_a_revoked_key_is_unauthorised(api: Api) -> None:
    feature = make_feature(team=api.team)
    key, token = make_key(api.team)
    assert api.with_token(token).post({"measurements": [item(feature)]}).status_code == 200
    IngestKey.objects.filter(pk=key.pk).update(revoked_at=NOW)
    response = api.with_token(token).post({"measurements": [item(feature)]})
    assert (response.status_code, error_code(response)) == (401, "unauthorized")


def test_an_expired_key_is_unauthorised(api: Api) -> None:
    _, token = create_key(
        team_slug=api.team.slug,
        name="k",
        scopes=["ingest"],
        actor="a test",
        now=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    feature = make_feature(team=api.team)
    with time_machine.travel(NOW + timedelta(minutes=59), tick=False):
        assert api.with_token(token).post({"measurements": [item(feature)]}).status_code == 200
    with time_machine.travel(NOW + timedelta(hours=1), tick=False):
        assert api.with_token(token).post({"measurements": [item(feature)]}).status_code == 401


@pytest.mark.parametrize("scopes", [("read",), ("write",), ("read", "write")])
def test_a_key_without_the_scope_is_forbidden(api: Api, scopes: tuple[str, ...]) -> None:
    feature = make_feature(team=api.team)
    token = make_key(api.team, *scopes)[1]
    response = api.with_token(token).post({"measurements": [item(feature)]})
    assert (response.status_code, error_code(response)) == (403, "missing_scope")
    assert "ingest" in response.json()["error"]["message"]
    assert stored.measurements(feature) == []


def test_who_may_not_send_is_told_so_before_the_body_is_looked_at(api: Api) -> None:
    token = make_key(api.team, "read")[1]
    assert api.with_token(token).post(b"{").status_code == 403
    assert api.with_token(None).post(b"{").status_code == 401


# -- 413 --------------------------------------------------------------------------------------------


def padded(size: int, feature: Any) -> bytes:
    """A sound body of exactly this many bytes."""
    body = msgspec.json.encode({"measurements": [item(feature)]})
    return body + b" " * (size - len(body))


def test_a_body_of_one_mib_is_accepted_and_one_byte_more_is_not(api: Api) -> None:
    feature = make_feature(team=api.team)
    assert api.post(padded(MIB, feature)).status_code == 200
    response = api.post(padded(MIB + 1, feature))
    assert (response.status_code, error_code(response)) == (413, "body_too_large")


def test_a_body_may_inflate_to_eight_mib_and_not_to_one_byte_more(api: Api) -> None:
    feature = make_feature(team=api.team)
    fits, too_large = (gzip.compress(padded(8 * MIB + extra, feature)) for extra in (0, 1))
    assert api.post(fits, content_encoding="gzip").status_code == 200
    response = api.post(too_large, content_encoding="gzip")
    assert (response.status_code, error_code(response)) == (413, "body_too_large")


def test_ten_thousand_measurements_are_accepted_and_one_more_is_not(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = msgspec.json.encode({"measurements": [item(feature)] * 9_996, "requests": [request_item(feature)]})
    assert api.post(gzip.compress(body), content_encoding="gzip").json()["accepted"] == 10_000
    body = msgspec.json.encode({"measurements": [item(feature)] * 9_997, "requests": [request_item(feature)]})
    response = api.post(gzip.compress(body), content_encoding="gzip")
    assert (response.status_code, error_code(response)) == (413, "too_many_measurements")
    assert len(stored.measurements(feature)) == 10_000


def bomb(mib: int) -> bytes:
    """A gzip body that inflates to so many MiB of zeros."""
    deflater = zlib.compressobj(9, wbits=31)
    return b"".join([deflater.compress(bytes(MIB)) for _ in range(mib)]) + deflater.flush()


def test_a_gzip_bomb_is_stopped_while_it_inflates(api: Api) -> None:
    body = bomb(200)
    assert len(body) < MIB
    api.post({}, content_encoding="identity")  # what is imported and prepared at the first request
    tracemalloc.start()
    try:
        response = api.post(body, content_encoding="gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (response.status_code, error_code(response)) == (413, "body_too_large")
    assert peak < 24 * MIB


def test_a_bomb_in_many_parts_is_stopped_too(api: Api) -> None:
    part = bomb(5)
    response = api.post(part * 10, content_encoding="gzip")
    assert (response.status_code, error_code(response)) == (413, "body_too_large")


# -- gzip -------------------------------------------------------------------------------------------


def test_a_gzip_body_may_come_in_several_members() -> None:
    body = b"".join(gzip.compress(part) for part in (b'{"measure', b"", b'ments":', b"[]}"))
    assert ingest.inflate(body, 100) == b'{"measurements":[]}'


def test_thousands_of_empty_members_are_passed_over() -> None:
    assert ingest.inflate(gzip.compress(b"") * 40_000 + gzip.compress(b"x"), 100) == b"x"


def test_what_does_not_fit_in_one_step_is_inflated_whole() -> None:
    text = b"".join(n.to_bytes(4, "big") for n in range(200_000))
    assert ingest.inflate(gzip.compress(text), MIB) == text


@given(st.lists(st.binary(max_size=50), max_size=4), st.integers(0, 250))
def test_inflating_stops_exactly_at_the_limit(parts: list[bytes], limit: int) -> None:
    whole = b"".join(parts)
    body = b"".join(map(gzip.compress, parts))
    if len(whole) <= limit:
        assert ingest.inflate(body, limit) == whole
    else:
        with pytest.raises(Refusal) as refused:
            ingest.inflate(body, limit)
        assert refused.value.status == 413


COMPRESSED = gzip.compress(b'{"measurements":[]}' * 100)


@pytest.mark.parametrize(
    "body",
    [
        COMPRESSED[:-1],
        COMPRESSED[:20],
        COMPRESSED[:5],
        COMPRESSED[:-8] + b"\0" * 8,
        COMPRESSED + b"garbage",
        COMPRESSED + COMPRESSED[:-1],
        b'{"measurements":[]}',
        zlib.compress(b"{}"),
        b"\x1f",
    ],
    ids=[
        "last byte missing",
        "cut off in the data",
        "cut off in the header",
        "wrong checksum",
        "garbage behind",
        "second member cut off",
        "not compressed",
        "zlib and not gzip",
        "one byte",
    ],
)
def test_a_gzip_body_that_is_damaged_is_malformed(api: Api, body: bytes) -> None:
    response = api.post(body, content_encoding="gzip")
    assert (response.status_code, error_code(response)) == (400, "malformed_gzip")


def test_an_empty_gzip_body_is_malformed(api: Api) -> None:
    assert error_code(api.post(b"", content_encoding="gzip")) == "malformed_json"


# -- 415 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "x"])
def test_another_encoding_is_not_supported(api: Api, encoding: str) -> None:
    feature = make_feature(team=api.team)
    response = api.post({"measurements": [item(feature)]}, content_encoding=encoding)
    assert (response.status_code, error_code(response)) == (415, "unsupported_encoding")
    assert stored.measurements(feature) == []


@pytest.mark.parametrize("encoding", ["identity", "GZIP", " gzip "])
def test_encodings_are_known_in_any_case(api: Api, encoding: str) -> None:
    feature = make_feature(team=api.team)
    body = msgspec.json.encode({"measurements": [item(feature)]})
    sent = body if encoding == "identity" else gzip.compress(body)
    assert api.post(sent, content_encoding=encoding).status_code == 200


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonl",
    ]
    + [f"application/json; charset={charset}" for charset in ("latin-1", "utf-16")],
)
def test_another_media_type_is_not_supported(api: Api, media_type: str) -> None:
    feature = make_feature(team=api.team)
    response = api.post({"measurements": [item(feature)]}, content_type=media_type)
    assert (response.status_code, error_code(response)) == (415, "unsupported_media_type")
    assert stored.measurements(feature) == []


@pytest.mark.parametrize(
    "media_type",
    ["", "Application/JSON", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'],
)
def test_json_in_utf_8_is_what_is_expected(api: Api, media_type: str) -> None:
    feature = make_feature(team=api.team)
    assert api.post({"measurements": [item(feature)]}, content_type=media_type).status_code == 200


# -- 429 --------------------------------------------------------------------------------------------


def test_a_team_whose_backlog_is_full_is_told_to_wait_until_it_is_rolled_up(
    api: Api, settings: Settings
) -> None:
    settings.INGEST_MAX_BACKLOG = 3
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)] * 2}
    assert [api.post(body).status_code, _forgetting(api, body)] == [200, 200]
    ingest._backlogs.clear()
    response = api.post(body)
    assert (response.status_code, error_code(response)) == (429, "backlog_full")
    assert int(response["Retry-After"]) > 0
    assert len(stored.measurements(feature)) == 4
    rollups.roll_up(now=NOW)
    assert _forgetting(api, body) == 200


def _forgetting(api: Api, body: Any) -> int:
    """The status of a POST to a process that has not counted the backlog yet."""
    ingest._backlogs.clear()
    return api.post(body).status_code


def test_exactly_the_limit_is_no_full_backlog(api: Api, settings: Settings) -> None:
    settings.INGEST_MAX_BACKLOG = 2
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)] * 2}
    assert [api.post(body).status_code, _forgetting(api, body), _forgetting(api, body)] == [200, 200, 429]


def test_a_replay_is_answered_though_the_backlog_is_full(api: Api, settings: Settings) -> None:
    settings.INGEST_MAX_BACKLOG = 1
    body = {"measurements": [item(make_feature(team=api.team))] * 2}
    first = api.post(body, idempotency_key="a")
    ingest._backlogs.clear()
    again = api.post(body, idempotency_key="a")
    assert (again.status_code, again.content) == (200, first.content)
    ingest._backlogs.clear()
    assert api.post(body, idempotency_key="b").status_code == 429
    settings.INGEST_MAX_BACKLOG = 100
    assert api.post(body, idempotency_key="b").get("Idempotent-Replay") is None


def test_one_teams_backlog_does_not_hold_up_another(api: Api, settings: Settings) -> None:
    settings.INGEST_MAX_BACKLOG = 1
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)] * 2})
    team = make_team()
    other = Api(team, make_key(team)[1])
    assert _forgetting(other, {"measurements": [item(make_feature(team=team))]}) == 200


# -- 503, and Redis ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_with_postgresql_away_the_sender_is_told_to_try_again(api: Api, tmp_path: Path) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)]}
    connection.close()
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = str(tmp_path)
    try:
        response = api.post(body)
    finally:
        connection.settings_dict["HOST"] = host
    assert (response.status_code, error_code(response)) == (503, "database_unavailable")
    assert int(response["Retry-After"]) > 0
    assert api.post(body).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_postgresql_ended_meanwhile_fails_no_request(api: Api) -> None:
    feature = make_feature(team=api.team)
    assert api.post({"measurements": [item(feature)]}).status_code == 200
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        def is_alone() -> bool:
            """The one that was ended is gone, and has said so on its way out."""
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return cursor.fetchone()[0] == 1

        assert eventually(is_alone, seconds=20)
    other.close()
    close_old_connections()  # as at the beginning of every request
    assert api.post({"measurements": [item(feature)]}).status_code == 200


def _with_redis_at(settings: Settings, location: str) -> None:
    settings.CACHES = {"default": django_settings.CACHES["default"] | {"LOCATION": location}}


def test_with_redis_away_a_post_is_stored_and_answered(
    api: Api, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _with_redis_at(settings, f"unix://{tmp_path}/no.sock?db=0")
    feature = make_feature(team=api.team)
    for _ in range(3):
        assert api.post({"measurements": [item(feature)]}).status_code == 200
    assert len(stored.measurements(feature)) == 3
    assert [record.message for record in caplog.records if "Redis cannot be reached" in record.message]
    assert rollups.roll_up(now=NOW).measurements == 3


def test_a_redis_that_hangs_holds_up_one_post_for_half_a_second_and_the_next_ones_not_at_all(
    api: Api, settings: Settings
) -> None:
    feature = make_feature(team=api.team)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        _with_redis_at(settings, f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        took = []
        for _ in range(4):
            begun = time.monotonic()
            assert api.post({"measurements": [item(feature)]}).status_code == 200
            took.append(time.monotonic() - begun)
    assert took[0] < 3
    assert sum(took[1:]) < took[0] + 1
