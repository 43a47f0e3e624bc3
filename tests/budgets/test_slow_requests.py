"""The slowest requests, and what slow ones have in common, out of what services sent; and their page."""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from budgets import formats, rollups, slow_requests, traced_requests
from budgets.models import Feature, Status, Team
from budgets.slow_requests import Comparison, SlowestRequests, compare_requests, slowest_requests
from tests.budgets.test_traced_requests import a_request, call, send, trace
from tests.factories import NOW, make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

HOUR = timedelta(hours=1)
FIRST_TOKEN = "milestone:first_token"


def slow_ones(feature: Feature, **asked: Any) -> SlowestRequests:
    return slowest_requests(feature, **{**of_the_last_day(), **asked})


def compared(feature: Feature, **asked: Any) -> Comparison:
    return compare_requests(feature, **{**of_the_last_day(), **asked})


def of_the_last_day() -> dict[str, Any]:
    return {
        "target": FIRST_TOKEN,
        "environment": "production",
        "start": NOW - 24 * HOUR,
        "end": NOW + timedelta(minutes=1),
        "now": NOW,
    }


def sent(feature: Feature, number: int, ms: float, *, at: datetime = NOW, **more: Any) -> dict[str, Any]:
    """A request that ended `at`."""
    started_at = (at - timedelta(milliseconds=ms)).isoformat()
    return a_request(feature, number, **{"started_at": started_at, "milestones": {"first_token": ms}, **more})


def test_the_slowest_are_found_exactly_however_they_are_spread() -> None:
    feature = make_feature()
    draw = random.Random(5)
    times = [round(draw.lognormvariate(6, 1), 1) for _ in range(300)]
    requests = [
        sent(feature, n, ms, at=NOW - timedelta(seconds=draw.uniform(0, 20 * 3600)), release=f"v{n % 3}")
        for n, ms in enumerate(times)
    ]
    send(feature, *requests)
    rollups.compact(now=NOW)
    expected = sorted(times, reverse=True)[:10]
    assert [one.duration_ms for one in slow_ones(feature).requests] == expected
    # And where one comes late into an hour that had been derived.
    send(feature, sent(feature, 900, 70_000, at=NOW - 5 * HOUR))
    assert [one.duration_ms for one in slow_ones(feature, count=2).requests] == [70_000, expected[0]]


def test_the_edges_of_a_range_are_kept() -> None:
    feature = make_feature()
    at = (NOW - HOUR).replace(minute=20, second=0)
    send(
        feature,
        sent(feature, 0, 9000, at=at - timedelta(seconds=1)),
        sent(feature, 1, 500, at=at),
        sent(feature, 2, 8000, at=at + timedelta(minutes=5)),
    )
    found = slow_ones(feature, start=at, end=at + timedelta(minutes=5))
    assert [one.duration_ms for one in found.requests] == [500]


def test_each_of_the_slowest_says_what_it_waited_for_and_what_was_promised() -> None:
    feature = make_feature()
    send(
        feature,
        sent(
            feature, 0, 4000, components=[call("retrieval", 0, 500), call("tools", 400, 3000)], release="v412"
        ),
        sent(feature, 1, 3500, status="timeout"),
        sent(feature, 2, 9000, status="error"),
        sent(feature, 3, 2000, trace_id=None),
    )
    first, second, third = slow_ones(feature).requests
    assert (first.trace_id, first.waited_for, first.waited_ratio) == (trace(0), "tools", 0.75)
    assert (first.limit_ms, first.release) == (3000, "v412")
    assert (second.status, second.waited_for) == (Status.TIMEOUT, None)
    assert (third.trace_id, third.duration_ms) == ("", 2000)


def test_labels_releases_and_statuses_that_slow_requests_share_are_found() -> None:
    feature = make_feature()
    requests = []
    for n in range(20):
        is_v2 = n < 15
        components = [call("tools", 0, 3000, status="timeout" if n % 2 else "ok")]
        labels = {"tool": "search_v2" if is_v2 else "search", "region": "eu"}
        requests.append(sent(feature, n, 4000, labels=labels, components=components, release="v2"))
    for n in range(20, 120):
        labels = {"tool": "search_v2" if n < 28 else "search", "region": "eu"}
        requests.append(sent(feature, n, 500, labels=labels, release="v2" if n < 60 else "v1"))
    send(feature, *requests)
    found = compared(feature)
    assert (found.slow, found.others, found.total, found.with_labels) == (20, 100, 120, 120)
    values = {
        (one.value.kind, one.value.name, one.value.value): (one.value.slow, one.value.others)
        for one in found.found
    }
    assert values == {
        ("label", "tool", "search_v2"): (15, 8),
        ("release", "", "v2"): (20, 40),
        ("status", "tools", "2"): (10, 0),
    }
    assert found.found[0].value.value == "search_v2"
    assert not found.is_sampled


def test_labels_of_calls_count_once_for_their_request() -> None:
    feature = make_feature()
    items, requests = [], []
    for n in range(60):
        requests.append(sent(feature, n, 4000 if n < 20 else 500, labels={"region": "eu"}))
        if n < 18:
            for component in ("tools", "model"):
                items.append(
                    {
                        "feature": feature.slug,
                        "component": component,
                        "trace_id": trace(n),
                        "started_at": (NOW - timedelta(seconds=1)).isoformat(),
                        "duration_ms": 100,
                        "labels": {"tool": "search_v2", "region": "eu"},
                    }
                )
    send(feature, *requests, measurements=items)
    [found] = compared(feature).found
    assert (found.value.name, found.value.value, found.value.slow, found.value.others) == (
        "tool",
        "search_v2",
        18,
        0,
    )


def test_slow_calls_of_a_component_are_compared_too() -> None:
    feature = make_feature()
    requests = [
        sent(
            feature, n, 2000, components=[call("tools", 0, 1500 if n < 30 else 200)],
            labels={"tool": "search_v2" if n < 27 else "search"},
        )
        for n in range(100)
    ]  # fmt: skip
    send(feature, *requests)
    found = compared(feature, target="component:tools")
    assert (found.slow, found.others) == (30, 70)
    assert found.found[0].value.value == "search_v2"
    assert slow_ones(feature, target="component:tools", count=1).requests[0].duration_ms == 1500


def test_of_too_many_requests_the_same_sample_is_compared_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_requests, "MAX_REQUESTS", 200)
    feature = make_feature()
    send(feature, *(sent(feature, n, 4000 if n % 2 else 500, labels={"odd": n % 2}) for n in range(800)))
    found = compared(feature)
    assert found.is_sampled
    assert found.total == 800
    assert 120 < found.slow + found.others < 280
    assert found.found[0].slow_ratio == 1
    assert compared(feature) == found


def test_of_too_many_measurements_slices_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_requests, "MAX_ROWS", 100)
    feature = make_feature()
    for hour in range(0, 24, 4):
        at = NOW - hour * HOUR
        send(
            feature,
            *(
                sent(feature, 1000 * hour + n, 4000 if n % 2 else 500, at=at - timedelta(seconds=n * 10))
                for n in range(200)
            ),
        )
    found = compared(feature)
    assert found.is_sampled
    assert 0 < found.slow + found.others < 1200
    assert compared(feature) == found


def test_how_much_there_is_today_is_known_at_every_time_of_the_day() -> None:
    """A day's rows lie in the part of it that is over: at 00:10 all of them are in the last ten minutes."""
    feature, midnight = make_feature(), NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    now = midnight + timedelta(minutes=10)
    send(feature, *(sent(feature, n, 100, at=midnight + timedelta(minutes=5)) for n in range(400)), now=now)
    rows = slow_requests._rows_between(midnight, now, now)
    assert rows >= 300
    assert slow_requests._rows_between(midnight, midnight + timedelta(minutes=5), now) == rows / 2
    assert slow_requests._rows_between(midnight, now, midnight + timedelta(minutes=20)) == rows / 2


def test_calls_are_not_paired_with_all_requests_where_every_one_has_the_same_trace_id() -> None:
    """Whose a call was is not known then: it says nothing of any of them, and costs no more than it would by itself."""
    feature = make_feature()
    many = traced_requests.MAX_REQUESTS_OF_TRACE + 1

    def of_one_trace(number: int, count: int) -> list[dict[str, Any]]:
        calls = [call("tools", 0, 50, status="error")]
        return [
            sent(
                feature,
                number,
                9000 if n % 2 else 100,
                at=NOW - timedelta(seconds=n),
                components=calls if n % 2 else [],
            )
            for n in range(count)
        ]

    send(feature, *of_one_trace(0, many))
    found = compared(feature)
    assert (found.slow + found.others, found.compared, found.with_labels) == (many, 1, 0)
    asked: dict[str, Any] = {
        "milestone": "first_token",
        "environment": "production",
        "start": NOW - HOUR,
        "end": NOW + HOUR,
    }
    assert len(traced_requests.read_requests(feature=feature, **asked).requests.duration_ms) == 0

    send(feature, *of_one_trace(1, many - 1))
    assert compared(feature).compared == 2
    assert len(traced_requests.read_requests(feature=feature, **asked).requests.duration_ms) == many - 1


def test_only_what_is_kept_is_looked_at(settings: Settings) -> None:
    settings.RAW_RETENTION_DAYS = 7
    feature = make_feature()
    send(feature, sent(feature, 0, 4000))
    assert slow_ones(feature, start=NOW - timedelta(days=28)).start == NOW.replace(
        day=NOW.day - 7, hour=0, minute=0, second=0
    )
    early = {"start": NOW - timedelta(days=20), "end": NOW - timedelta(days=19)}
    assert slow_ones(feature, **early).requests == ()
    assert compared(feature, **early).total == 0


# -- the page ---------------------------------------------------------------------------------------


@pytest.fixture
def feature(client: Client) -> Feature:
    team = make_team(slug="assistants")
    client.force_login(make_person("viewer@example.com", team=team))
    return make_feature(team=team, slug="chat", now=timezone.now() - timedelta(days=1))


def fill(
    feature: Feature, now: datetime, slow: int, others: int, *, tool: str = "search_v2", first: int = 0
) -> None:
    requests = [
        sent(
            feature, first + n, 4000 if n < slow else 500, at=now - timedelta(seconds=n % 50), release="v412",
            labels={"tool": tool} if n < slow * 0.62 or slow <= n < slow + others * 0.08 else {"tool": "search"},
        )
        for n in range(slow + others)
    ]  # fmt: skip
    send(feature, *requests, now=now)


def text_of(client: Client, address: str, **more: Any) -> str:
    answer = client.get(address, **more)
    assert answer.status_code == 200
    return answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_says_what_slow_requests_have_in_common_and_leads_to_the_slowest(
    client: Client, feature: Feature
) -> None:
    fill(feature, timezone.now(), 50, 200)
    page = text_of(client, "/features/chat/slow-requests/?window=1h")
    assert "62 % of slow requests have tool=search_v2; 8 % of the others do." in page
    assert "50 slow requests beside 200 others" in page
    assert page.count(f"/features/chat/traces/{trace(0)[:24]}") == 10
    for part, word in (("common", "62 %"), ("slowest", "/traces/")):
        found = text_of(
            client, f"/features/chat/slow-requests/?window=1h&part={part}", headers={"HX-Request": "true"}
        )
        assert word in found
        assert "<html" not in found
    page = text_of(client, "/features/chat/?window=1h")
    assert "/features/chat/slow-requests/?window=1h&amp;milestone=first_token&amp;part=common" in page
    assert "/features/chat/slow-requests/?window=1h&amp;milestone=first_token&amp;part=slowest" in page


def test_each_of_the_slowest_leads_to_itself_where_one_trace_has_several(
    client: Client, feature: Feature
) -> None:
    now = timezone.now()
    for number, ms in enumerate((5000, 4000)):
        send(feature, sent(feature, 0, ms, at=now - timedelta(seconds=10 * number)), now=now)
    page = text_of(client, "/features/chat/slow-requests/?window=1h")
    urls = [unescape(url) for url in re.findall(r'href="([^"]+/traces/[^"]+)"', page)]
    assert [
        re.findall(r"<h1>|Took 5.00 s|after 5.00 s|after 4.00 s", text_of(client, url))[-1] for url in urls
    ] == [
        "after 5.00 s",
        "after 4.00 s",
    ]


def test_the_page_says_which_range_it_is_about(client: Client, feature: Feature) -> None:
    at = timezone.now().replace(second=0, microsecond=0) - timedelta(hours=2)
    page = text_of(client, f"/features/chat/slow-requests/?window=1h&at={at:%Y-%m-%dT%H:%M:%SZ}")
    assert formats.between(at - timedelta(minutes=59), at + timedelta(minutes=1)) in page


def test_the_page_says_why_it_has_nothing_to_say(client: Client, feature: Feature) -> None:
    assert "No request was judged in this range." in text_of(client, "/features/chat/slow-requests/")
    fill(feature, timezone.now(), 0, 30)
    assert "No request was over its latency budget in this range." in text_of(
        client, "/features/chat/slow-requests/"
    )
    page = text_of(client, "/features/chat/slow-requests/?window=28d")
    assert "Single requests are kept for 7 days" in page


def test_hostile_labels_are_shown_as_the_text_that_they_are(client: Client, feature: Feature) -> None:
    hostile = '<img src=x onerror="alert(1)">{{ 7*7 }}‮' + "y" * 3000
    fill(feature, timezone.now(), 50, 200, tool=hostile)
    page = text_of(client, "/features/chat/slow-requests/")
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert "{{ 7*7 }}" in page


def test_the_page_takes_the_same_queries_however_much_there_is(client: Client, feature: Feature) -> None:
    taken = []
    for first, slow, others in ((0, 5, 20), (1000, 100, 300)):
        fill(feature, timezone.now(), slow, others, first=first)
        with CaptureQueriesContext(connection) as queries:
            text_of(client, "/features/chat/slow-requests/")
        taken.append(len(queries))
    assert taken[0] == taken[1] <= 45
    assert Team.objects.count() == 1
