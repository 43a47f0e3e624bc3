"""Lines of the log, and the id that follows a request through all of them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.signing import Signer
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from budgets import audit, doorbell, request_ids
from budgets.models import AuditEntry, Batch
from latency_dashboard.celery import app
from latency_dashboard.logs import JsonLines, NoteRequests, PlainLines, mask
from latency_dashboard.request_log import RequestLog
from tests.api import Api
from tests.factories import NOW, item, make_feature, make_key

KEY = "ld_abcdefgh_" + "s3cr3t" * 6


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged within the test, as JSON gives it."""
    found: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    handler = Kept()
    handler.setFormatter(JsonLines())
    handler.addFilter(NoteRequests())
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.fixture
def headers(api: Api) -> dict[str, str]:
    """A key of the team, as a service shows it."""
    return {"Authorization": f"Bearer {make_key(api.team)[1]}"}


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("example").makeRecord(
        "example", logging.WARNING, __file__, 1, message, arguments, None, extra=extra
    )
    NoteRequests().filter(made)
    return made


# -- formats ----------------------------------------------------------------------------------------


def test_a_json_line_says_when_how_bad_who_what_and_what_else() -> None:
    line = json.loads(JsonLines().format(record("rolled up %s", 3, batches=3)))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "WARNING", "logger": "example", "message": "rolled up 3", "batches": 3}


def test_a_line_names_the_request_that_it_is_logged_for() -> None:
    with request_ids.done_for(["a1"]):
        made = record("hello")
    assert json.loads(JsonLines().format(made))["request_id"] == "a1"
    assert PlainLines().format(made).endswith("WARNING example hello [a1]")


def test_a_line_of_work_for_several_requests_names_all_of_them() -> None:
    with request_ids.done_for(["a1", "b2", "a1", ""]):
        made = record("hello")
    assert json.loads(JsonLines().format(made))["request_ids"] == ["a1", "b2"]
    assert PlainLines().format(made).endswith("hello [a1 b2]")


def test_a_line_outside_any_request_names_none() -> None:
    assert PlainLines().format(record("hello")).endswith("hello")
    assert "request_id" not in json.loads(JsonLines().format(record("hello")))


def test_a_line_stays_one_line_with_its_traceback_and_whatever_is_in_it() -> None:
    try:
        raise ValueError("broken\nin two, \ud800 and more")
    except ValueError:
        made = record("failed", number=2**70)
        made.exc_info = sys.exc_info()
    line = JsonLines().format(made)
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["exc_info"]


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"{{'Authorization': 'Bearer {KEY}'}}",
        f"HTTP_AUTHORIZATION={KEY}",
        f"token was {KEY}, they say",
        "secret whsec_s3cr3ts3cr3t",
        "Authorization: Basic s3cr3t",
        "bearer s3cr3t",
        "Cookie: session=s3cr3t",
    ],
)
def test_secrets_are_masked_in_every_format(text: str) -> None:
    for formatter in (JsonLines(), PlainLines()):
        line = formatter.format(record("failed: %s", text))
        assert "s3cr3t" not in line
        assert "***" in line
    # Which key it was may be seen: the prefix is what people know it by.
    assert "ld_abcdefgh_***" in mask(f"token {KEY}")


def test_no_line_holds_a_link_that_lets_in_whoever_has_it(
    lines: list[dict[str, Any]], db: None, plain_static_files: None
) -> None:
    invitation = Signer(sep=".", salt="budgets.invitations").sign("7")
    reset = "cxlmkq-0123456789abcdef0123456789abcdef"
    visitor = Client(enforce_csrf_checks=True)
    visitor.get(f"/invitations/{invitation}")  # led to the address with a slash
    visitor.get(f"/invitations/{invitation}/")
    visitor.post(f"/invitations/{invitation}/")  # refused as forged
    visitor.get(f"/password/reset/MQ/{reset}")
    visitor.post(f"/password/reset/MQ/{reset}/")

    said = json.dumps(lines)
    assert "GET /invitations/7.*** 301" in said
    assert "GET /password/reset/MQ/*** 301" in said
    assert invitation.partition(".")[2] not in said
    assert reset not in said


# -- requests ---------------------------------------------------------------------------------------


def test_an_answer_carries_the_id_that_the_caller_chose(api: Api) -> None:
    response = Client().get("/healthz", headers={"X-Request-ID": "deploy-42/a:b"})
    assert response["X-Request-ID"] == "deploy-42/a:b"


@pytest.mark.parametrize("chosen", [None, "", "a b", "x" * 65, "ümlaut", 'a"b', "a\tb"])
def test_an_answer_carries_a_new_id_where_the_callers_is_not_sane(chosen: str | None) -> None:
    headers = {} if chosen is None else {"X-Request-ID": chosen}
    first, second = (Client().get("/healthz", headers=headers)["X-Request-ID"] for _ in range(2))
    assert len(first) == 32
    assert first not in (chosen, second)


def test_every_line_of_a_request_has_its_id_and_the_last_says_how_it_went(
    headers: dict[str, str], lines: list[dict[str, Any]]
) -> None:
    logging.getLogger("django.request").setLevel(logging.WARNING)
    try:
        Client().get("/api/v1/features/no/status", headers={"X-Request-ID": "one", **headers})
    finally:
        logging.getLogger("django.request").setLevel(logging.ERROR)
    assert {line.get("request_id") for line in lines} == {"one"}, lines
    assert len(lines) == 2
    [last] = [line for line in lines if line["logger"] == "latency_dashboard.access"]
    assert (last["method"], last["status"]) == ("GET", 404)
    assert last["route"] == "/api/v1/features/<feature>/status"
    assert last["message"].startswith("GET /api/v1/features/no/status 404 ")
    assert 0 < last["duration_ms"] < 10_000


@pytest.mark.usefixtures("plain_static_files")
def test_a_refusal_is_said_once(headers: dict[str, str], lines: list[dict[str, Any]]) -> None:
    Client().get("/api/v1/features/no/status", headers=headers)
    assert [line["logger"] for line in lines] == ["latency_dashboard.access"]


@pytest.mark.usefixtures("plain_static_files")
def test_no_header_no_query_and_no_body_is_logged(
    api: Api, headers: dict[str, str], lines: list[dict[str, Any]]
) -> None:
    api.post({"measurements": [{"feature": "b0dy-s3cr3t"}]})
    Client().get("/api/v1/features?cursor=query-s3cr3t", headers=headers)
    Client().get("/no-such-page?query-s3cr3t", headers={"Cookie": "session=cookie-s3cr3t"})
    assert len(lines) >= 3
    logged = json.dumps(lines)
    assert "s3cr3t" not in logged
    assert headers["Authorization"].removeprefix("Bearer ") not in logged


@pytest.mark.usefixtures("plain_static_files")
@pytest.mark.parametrize("path", ["/invitations/s3cr3t/", "/password/reset/MQ/s3cr3t-s3cr3t/"])
def test_a_link_that_lets_in_whoever_holds_it_is_logged_without_its_secret(
    db: None, lines: list[dict[str, Any]], path: str
) -> None:
    Client().get(path)
    assert len(lines) > 0
    assert "s3cr3t" not in json.dumps(lines)


@pytest.mark.usefixtures("plain_static_files")
def test_probes_and_static_files_leave_no_line(db: None, lines: list[dict[str, Any]]) -> None:
    for path in ("/healthz", "/static/none.css", "/metrics"):
        Client().get(path)
    assert [line for line in lines if line["logger"] == "latency_dashboard.access"] == []


def test_what_is_done_after_a_request_is_not_done_for_it(lines: list[dict[str, Any]]) -> None:
    Client().get("/healthz", headers={"X-Request-ID": "one"})
    assert request_ids.current() == ()


def test_the_log_of_a_request_costs_less_than_a_twentieth_of_a_millisecond() -> None:
    """Id, line and counters, beside a view that does nothing; by the processor's time, for others run here too."""
    answer = HttpResponse()
    request = RequestFactory().post("/api/v1/measurements")
    request.resolver_match = Client().get("/healthz").resolver_match  # type: ignore[attr-defined]
    request.resolver_match.route = "api/v1/measurements"
    watched = RequestLog(lambda request: answer)
    logger = logging.getLogger("latency_dashboard.access")
    handler = logging.StreamHandler(open("/dev/null", "w"))  # noqa: SIM115
    handler.setFormatter(JsonLines())
    handler.addFilter(NoteRequests())
    logger.addHandler(handler)
    logger.propagate = False
    try:
        best_s = min(_seconds(watched, request, times=500) for _ in range(20))
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.stream.close()
    assert best_s / 500 < 50e-6, f"{best_s / 500 * 1e6:.1f} µs a request"


def _seconds(watched: RequestLog, request: HttpRequest, *, times: int) -> float:
    began = time.thread_time()
    for _ in range(times):
        watched(request)
    return time.thread_time() - began


# -- and beyond -------------------------------------------------------------------------------------


def test_a_batch_keeps_the_id_of_the_request_that_it_came_with(api: Api, headers: dict[str, str]) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature, started_at=time.time() - 1)]}
    response = Client().post(
        "/api/v1/measurements",
        body,
        content_type="application/json",
        headers={"X-Request-ID": "post-7", **headers},
    )
    assert response.status_code == 200
    assert Batch.objects.get().request_id == "post-7"


def test_an_entry_of_the_audit_log_keeps_the_id_of_its_request(api: Api) -> None:
    with request_ids.done_for(["change-9"]):
        audit.record(
            team=api.team, actor="ada", action="feature.declared", subject="x", before=1, after=2, now=NOW
        )
    assert AuditEntry.objects.latest("id").request_id == "change-9"


def test_a_line_names_no_more_requests_than_a_person_reads() -> None:
    with request_ids.done_for(map(str, range(1000))):
        assert request_ids.current() == tuple(map(str, range(request_ids.MOST)))


def test_celery_leaves_logging_as_settings_have_it() -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    app.log.setup(loglevel="CRITICAL")
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


def test_a_task_is_done_for_the_requests_of_whoever_sent_it() -> None:
    seen: list[tuple[str, ...]] = []

    @app.task(name="tests.see")
    def see() -> None:
        seen.append(request_ids.current())

    try:
        see.apply(headers={"request_ids": ["a", "b"]})
        see.apply()
    finally:
        app.tasks.unregister("tests.see")
    assert seen == [("a", "b"), ()]


def test_a_task_that_is_sent_takes_the_requests_with_it() -> None:
    with app.connection_for_write() as broker:
        queue = app.amqp.queues["deliver"](broker)
        queue.declare()
        queue.purge()
        with request_ids.done_for(["a", "b"]):
            doorbell.send("alerts.tasks.deliver", 7)
        message = queue.get(no_ack=True)
    assert message is not None
    assert message.headers["request_ids"] == ["a", "b"]


def test_the_format_is_the_one_that_is_set() -> None:
    assert settings.LOGGING["handlers"]["console"]["formatter"] == settings.LOG_FORMAT == "text"
