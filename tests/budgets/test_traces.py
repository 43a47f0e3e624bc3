"""One trace out of what services sent, and its page."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from budgets import traces
from budgets.models import Feature, Status, Team, User
from budgets.traces import Trace, read_trace, trace_id_of
from tests.budgets.test_traced_requests import BEGAN, call, send, span, trace
from tests.budgets.test_traced_requests import a_request as of_a_request
from tests.factories import make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

BOTH = [
    {"milestone": "first_token", "budget_ms": 3000, "objective": 0.99, "window_days": 28,
     "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300}},
    {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
]  # fmt: skip


def read(feature: Feature, **asked: Any) -> Trace:
    visible = list(Feature.objects.filter(team=feature.team))
    found = read_trace(feature, trace(0), visible=visible, **asked)
    assert isinstance(found, Trace)
    return found


def test_a_request_is_its_milestones_its_calls_and_what_the_user_waited_for() -> None:
    feature = make_feature(latency_budgets=BOTH)
    a_request = of_a_request(
        feature,
        milestones={"first_token": 2000, "complete": 6000},
        components=[call("retrieval", 100, 500), call("tools", 500, 1000)],
        release="v412",
        labels={"tool": "search_v2", "n": "1"},
    )
    send(feature, a_request)
    found = read(feature)
    request = found.request
    assert (request.milestone, request.root_ms, request.release) == ("complete", 6000, "v412")
    assert request.started_at == BEGAN
    assert [(one.milestone, one.duration_ms, one.limit_ms) for one in request.reached] == [
        ("first_token", 2000, 3000),
        ("complete", 6000, 8000),
    ]
    assert [(one.component, one.start_ms, one.over, one.waited) for one in request.spans] == [
        ("retrieval", 100, ((500, 600),), ((100, 500),)),
        ("tools", 500, ((1300, 1500),), ((500, 1500),)),
    ]
    assert request.unattributed == ((0, 100), (1500, 6000))
    assert request.labels == (("n", "1"), ("tool", "search_v2"))
    assert [
        (one.component, one.judged_ms, one.limit_ms, one.over_ms, one.waited_ms) for one in request.components
    ] == [
        ("tools", 1000, 800, 200, 1000),
        ("retrieval", 500, 400, 100, 400),
    ]
    assert request.unattributed_ms + sum(one.waited_ms for one in request.components) == request.root_ms
    assert read(feature, milestone="first_token").request.unattributed == ((0, 100), (1500, 2000))


def test_the_milestone_that_was_missed_first_is_the_one_that_is_explained() -> None:
    feature = make_feature(latency_budgets=BOTH)
    send(feature, of_a_request(feature, milestones={"first_token": 3500, "complete": 6000}))
    assert read(feature).request.milestone == "first_token"


def test_several_calls_of_a_component_are_over_from_where_their_union_used_up_the_allocation() -> None:
    feature = make_feature(latency_budgets=BOTH)
    calls = [
        call("tools", 0, 500, span_id=span(1)),
        call("tools", 400, 300, span_id=span(2), parent_span_id=span(1)),
        call("tools", 1000, 400, span_id=span(3), status="timeout"),
    ]
    send(feature, of_a_request(feature, milestones={"complete": 2000}, components=calls))
    [tools] = read(feature).request.components
    assert (tools.calls, tools.judged_ms, tools.over_ms, tools.status) == (3, 1100, 300, Status.TIMEOUT)
    first, child, last = read(feature).request.spans
    assert (first.over, child.over, last.over) == ((), (), ((1100, 1400),))
    assert (first.depth, child.depth, last.depth, child.parent) == (0, 1, 0, 0)


def test_calls_that_lack_a_parent_go_round_or_outlast_the_request_are_all_shown() -> None:
    feature = make_feature()
    calls = [
        call("model", 0, 600, span_id=span(1), parent_span_id=span(9)),
        call("tools", 100, 100, span_id=span(2), parent_span_id=span(3)),
        call("overhead", 150, 100, span_id=span(3), parent_span_id=span(2)),
        call("retrieval", 900, 5000),
    ]
    send(feature, of_a_request(feature, components=calls))
    request = read(feature).request
    assert sorted(one.component for one in request.spans) == ["model", "overhead", "retrieval", "tools"]
    assert next(one for one in request.spans if one.component == "retrieval").waited == ((900, 1000),)
    assert request.unattributed_ms + sum(one.waited_ms for one in request.components) == 1000


def test_a_trace_with_several_requests_shows_the_slowest_and_gives_each_its_own_calls() -> None:
    feature = make_feature()
    later = (BEGAN + timedelta(seconds=30)).isoformat()
    send(
        feature,
        of_a_request(feature, components=[call("model", 0, 900)]),
        of_a_request(
            feature, started_at=later, milestones={"first_token": 2500}, components=[call("tools", 10, 2000)]
        ),
    )
    found = read(feature)
    assert (found.number, len(found.starts)) == (2, 2)
    assert [one.component for one in found.request.spans] == ["tools"]
    assert [one.component for one in read(feature, number=1).request.spans] == ["model"]


def test_calls_without_offsets_stand_one_after_the_other_and_it_is_said() -> None:
    feature = make_feature()
    send(feature, of_a_request(feature, components=[call("model", None, 600), call("tools", None, 300)]))
    request = read(feature).request
    assert request.is_lined_up
    assert sorted((one.start_ms, one.duration_ms) for one in request.spans) == [(0, 300), (300, 600)]


def test_calls_without_a_milestone_are_a_trace_too() -> None:
    feature = make_feature()
    send(
        feature,
        of_a_request(feature, milestones={}, components=[call("model", 0, 600), call("tools", 700, 300)]),
    )
    request = read(feature).request
    assert (request.milestone, request.root_ms, request.unattributed) == (None, 1000, ((600, 700),))


def test_what_is_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_SPANS", 20)
    feature = make_feature()
    calls = [call("model", n, 100 + n, span_id=span(n)) for n in range(30)]
    send(feature, of_a_request(feature, components=calls))
    found = read(feature)
    assert found.is_cut
    assert max(one.duration_ms for one in found.request.spans) == 129
    assert found.request.reached


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("4BF92F35-77B3-4DA6-A3CE-929D0E0E4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("0" * 32, None),
        ("abc", None),
        ("٣" * 32, None),
    ],
)
def test_a_trace_id_is_known_however_it_is_written(text: str, found: str | None) -> None:
    assert trace_id_of(text) == found


# -- the page ---------------------------------------------------------------------------------------


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def viewer(client: Client) -> User:
    found = make_person("viewer@example.com", team=make_team(slug="assistants"))
    client.force_login(found)
    return found


@pytest.fixture
def feature(viewer: User, now: datetime) -> Feature:
    team = Team.objects.get(slug="assistants")
    return make_feature(team=team, slug="chat", latency_budgets=BOTH, now=now - timedelta(days=1))


def a_request(feature: Feature, now: datetime, number: int = 0, **overrides: Any) -> dict[str, Any]:
    return of_a_request(
        feature, number, **{"started_at": (now - timedelta(seconds=30)).isoformat(), **overrides}
    )


def text_of(client: Client, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status
    return answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_says_first_how_long_it_took_and_what_it_waited_for(
    client: Client, feature: Feature, now: datetime
) -> None:
    calls = [call("retrieval", 0, 300), call("tools", 300, 4200), call("model", 4500, 1000)]
    sent = a_request(
        feature,
        now,
        milestones={"first_token": 2500, "complete": 6210},
        components=calls,
        labels={"tool": "search_v2"},
    )
    send(feature, sent, now=now)
    page = text_of(client, f"/features/chat/traces/{trace(0)}/")
    assert "Took 6.21 s of 8 s; waited 67.6 % of it in tools." in page
    assert "First token after 2.50 s of 3 s." in page
    assert "tools ran 3.40 s over its allocation of 800 ms" in page
    assert "search_v2" in page
    assert "unattributed" in page
    assert 'fill="url(#over-hatch)"' in page
    assert page.count('class="limit"') > 4
    assert "style=" not in page.replace("-style", "")


def test_names_and_labels_are_shown_as_the_text_that_they_are(
    client: Client, feature: Feature, now: datetime
) -> None:
    hostile = '<img src=x onerror="alert(1)">{{ 7*7 }}'
    sent = a_request(
        feature, now, components=[call(hostile[:150], 0, 800)], labels={hostile: hostile}, release="‮v412"
    )
    send(feature, sent, now=now)
    page = text_of(client, f"/features/chat/traces/{trace(0)}/")
    assert "<img" not in page
    assert "49" not in page.split("labels")[1][:2000]
    assert "&lt;img src=x" in page
    [_, row] = csv.reader(io.StringIO(text_of(client, f"/features/chat/traces/{trace(0)}.csv")))
    assert row[0] == hostile[:150]


def test_a_formula_in_a_name_is_text_in_the_file(client: Client, feature: Feature, now: datetime) -> None:
    send(feature, a_request(feature, now, components=[call("=1+1", 0, 800)]), now=now)
    [head, row] = csv.reader(io.StringIO(text_of(client, f"/features/chat/traces/{trace(0)}.csv")))
    assert dict(zip(head, row, strict=True))["component"] == "'=1+1"
    assert dict(zip(head, row, strict=True))["duration_ms"] == "800.0"


def test_thousands_of_spans_are_drawn_in_part_and_all_in_the_file(
    client: Client, feature: Feature, now: datetime
) -> None:
    calls = [call("model", n, 5, span_id=span(n), parent_span_id=span(n // 2)) for n in range(1200)]
    send(feature, a_request(feature, now, milestones={"complete": 2000}, components=calls), now=now)
    page = text_of(client, f"/features/chat/traces/{trace(0)}/")
    assert "1,000 shorter spans are not drawn" in page
    assert page.count('class="row-call"') == 200
    assert len(text_of(client, f"/features/chat/traces/{trace(0)}.csv").splitlines()) == 1201


def test_an_unknown_trace_is_a_page_that_says_what_is_kept_and_what_to_do(
    client: Client, feature: Feature
) -> None:
    page = text_of(client, f"/features/chat/traces/{trace(7)}/", 404)
    assert "Single requests are kept for 7 days" in page
    assert 'href="/features/chat/"' in page
    assert "This is no trace id" in text_of(client, "/features/chat/traces/49/", 404)
    answer = client.get(f"/features/chat/traces/{'AB' * 16}/?milestone=complete")
    assert answer.headers["Location"] == f"/features/chat/traces/{'ab' * 16}/?milestone=complete"


def test_a_trace_of_several_features_leads_to_those_the_person_may_see(
    client: Client, feature: Feature, now: datetime
) -> None:
    other = make_feature(team=feature.team, slug="helper", name="Helper", now=now - timedelta(days=1))
    foreign = make_feature(slug="foreign", name="Foreign", now=now - timedelta(days=1))
    for one in (feature, other, foreign):
        send(one, a_request(one, now), now=now)
    page = text_of(client, f"/features/chat/traces/{trace(0)}/")
    assert f"/features/helper/traces/{trace(0)}/" in page
    assert "Foreign" not in page
    send(other, a_request(other, now, 5), now=now)
    page = text_of(client, f"/features/chat/traces/{trace(5)}/", 404)
    assert f"/features/helper/traces/{trace(5)}/" in page


def test_a_trace_takes_the_same_queries_however_long_it_is(
    client: Client, feature: Feature, now: datetime
) -> None:
    send(feature, a_request(feature, now, 0, components=[call("model", 0, 5)]), now=now)
    calls = [call(f"c{n % 20}", n, 50, span_id=span(n)) for n in range(300)]
    send(feature, a_request(feature, now, 1, components=calls), now=now)
    taken = []
    for number in (0, 1):
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/features/chat/traces/{trace(number)}/")
        taken.append(len(queries))
    assert taken[0] == taken[1] <= 12
