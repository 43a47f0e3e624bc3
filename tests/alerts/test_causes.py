"""Whose fault it is, by what services sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from alerts import causes as asked
from alerts.causes import Attribution, causes
from alerts.wording import attributed, how_attributed
from budgets.models import Feature
from budgets.status import get_overview
from tests.budgets.test_traced_requests import a_request, call, send
from tests.factories import NOW, make_feature, make_traffic

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def a_minute(
    feature: Feature,
    at: Any = NOW,
    *,
    slow: int,
    of: int,
    by: str = "tools",
    extra_ms: float = 2500,
    traced: bool = True,
    first: int = 0,
) -> None:
    """Requests of which each takes 1600 ms, of which so many take longer by one component."""
    began = at - MINUTE
    usual = {"retrieval": 200.0, "tools": 400.0, "model": 900.0}
    requests = []
    for n in range(of):
        took = usual | ({by: usual.get(by, 0) + extra_ms} if n < slow else {})
        offset, calls = 0.0, []
        for name, ms in took.items():
            if name != "nobody":
                calls.append(call(name, offset, ms))
            offset += ms
        request = a_request(
            feature,
            first + n,
            started_at=(began + timedelta(milliseconds=10 * n)).isoformat(),
            milestones={"first_token": offset + 100},
            components=calls,
        )
        if not traced:
            del request["trace_id"]
        requests.append(request)
    send(feature, *requests, now=at)


def ask(feature: Feature, **overrides: Any) -> Attribution:
    arguments: dict[str, Any] = {
        "milestone": "first_token",
        "environment": "production",
        "since": NOW,
        "now": NOW,
        "window": "1h",
        **overrides,
    }
    statuses = get_overview([feature], now=arguments["now"], window=arguments["window"])[feature.pk]
    found = causes(feature=feature, statuses=statuses, **arguments)
    assert found is not None
    return found


def test_the_component_that_makes_slow_requests_slow_is_the_cause_though_another_is_over_its_allocation():
    """Retrieval takes longer than its allocation in every request, fast or slow."""
    feature = make_feature(
        latency_budgets=[
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {"model": 2200, "retrieval": 10, "tools": 700},
            }
        ]
    )
    a_minute(feature, slow=2, of=40, by="tools", extra_ms=1500)
    a_minute(feature, slow=3, of=40, by="tools", extra_ms=1500, first=100)
    found = ask(feature)
    assert (found.by, found.over, found.within) == ("requests", 5, 75)
    assert found.cause is not None
    assert found.cause["component"] == "tools"
    worst = found.contributions[0]
    assert (worst.component, worst.excess_ms, worst.share_ratio) == ("tools", 1500, 1)
    assert worst.but_for_ratio == 1
    assert worst.allocated_ms == 700
    assert {one.component for one in found.contributions} == {"tools", "retrieval", "model", None}


def test_a_component_without_an_allocation_is_a_cause_like_any_other():
    feature = make_feature()
    a_minute(feature, slow=4, of=40, by="safety")
    found = ask(feature)
    assert found.by == "requests"
    assert found.cause == {"component": "safety", "allocated_ms": None, "observed_ms": 2500}


@pytest.mark.parametrize(("slow", "of"), [(2, 40), (4, 13)])
def test_too_few_requests_with_trace_ids_leave_it_to_the_allocations(slow: int, of: int):
    feature = make_feature()
    a_minute(feature, slow=slow, of=of, by="tools")
    found = ask(feature)
    assert (found.by, found.why) == ("allocations", "few_traces")
    assert found.cause is not None
    assert found.cause["component"] == "tools"
    assert {one.excess_ms for one in found.contributions} == {None}


def test_without_trace_ids_it_is_the_component_most_over_its_allocation():
    feature = make_feature()
    a_minute(feature, slow=10, of=40, by="tools", traced=False)
    found = ask(feature)
    assert (found.by, found.why, found.over) == ("allocations", "few_traces", 0)
    assert found.cause is not None
    assert (found.cause["component"], found.cause["allocated_ms"]) == ("tools", 800)


def test_time_in_no_component_is_nobodys_fault():
    feature = make_feature()
    a_minute(feature, slow=6, of=40, by="nobody")
    found = ask(feature)
    assert (found.by, found.cause) == ("requests", None)
    assert found.contributions[0].component is None
    assert found.contributions[0].excess_ms == pytest.approx(2500)


def test_where_the_time_is_in_no_component_of_the_requests_the_allocations_are_asked():
    """Tools sends its measurements without trace ids."""
    feature = make_feature()
    a_minute(feature, slow=6, of=40, by="nobody")
    make_traffic(feature, at=NOW - MINUTE, count=40, over=6, over_ms=2900, component="tools", now=NOW)
    found = ask(feature)
    assert (found.by, found.why) == ("allocations", "unmeasured")
    assert found.cause is not None
    assert found.cause["component"] == "tools"


def test_in_an_outage_requests_before_it_tell_what_is_usual():
    feature = make_feature()
    a_minute(feature, NOW - 30 * MINUTE, slow=0, of=40)
    a_minute(feature, NOW, slow=30, of=30, by="retrieval", first=100)
    found = ask(feature, window="5m")
    assert (found.by, found.over, found.within) == ("requests", 30, 40)
    assert found.cause is not None
    assert found.cause["component"] == "retrieval"


def test_requests_since_the_incident_began_count_and_those_of_the_window_before_it():
    feature = make_feature()
    a_minute(feature, NOW - 100 * MINUTE, slow=5, of=20)
    assert ask(feature).over == 0
    assert ask(feature, since=NOW - 110 * MINUTE).over == 5


def test_where_much_began_at_once_the_requests_are_not_read():
    feature = make_feature()
    a_minute(feature, slow=10, of=40)
    found = ask(feature, reads_requests=False)
    assert (found.by, found.why) == ("allocations", "many_incidents")


def test_nothing_measured_has_no_cause():
    feature = make_feature(
        latency_budgets=[
            {"milestone": "first_token", "budget_ms": 3000, "objective": 0.99, "window_days": 28}
        ]
    )
    statuses = get_overview([feature], now=NOW, window="1h")[feature.pk]
    assert (
        causes(
            feature=feature,
            environment="production",
            milestone="first_token",
            since=NOW,
            now=NOW,
            window="1h",
            statuses=statuses,
        )
        is None
    )


def test_the_document_has_what_a_page_shows():
    feature = make_feature()
    a_minute(feature, slow=4, of=40)
    document = ask(feature).document()
    assert document["by"] == "requests"
    assert document["from"] < document["to"]
    assert document["components"][0] == {
        "component": "tools",
        "allocated_ms": 800,
        "observed_ms": pytest.approx(2900, rel=0.02),
        "excess_ms": 2500,
        "share_ratio": 1,
        "but_for_ratio": 1,
    }


# In words

RELEASE = {
    "kind": "release",
    "at": "2026-11-21T02:51:00Z",
    "text": "Release v412",
    "name": "v412",
    "components": [],
}


def test_a_deploy_that_was_marked_is_named_where_no_release_appeared():
    feature = make_feature()
    a_minute(feature, slow=4, of=40, extra_ms=1500)
    cause = ask(feature)
    deploy = {**RELEASE, "kind": "deploy", "text": "Deploy: canary", "name": "canary"}
    note = {**deploy, "kind": "note"}

    def said(*changes: dict[str, Any]) -> str:
        return attributed(cause.cause, cause.document(), changes).removeprefix("Tools +1.50 s")

    assert said(note, deploy) == " since deploy canary (02:51 UTC)."
    assert said(deploy, RELEASE) == " since v412 (02:51 UTC)."
    assert said(note) == "."
    assert said({**deploy, "name": "x" * 300}) == f" since deploy {'x' * 59}… (02:51 UTC)."


def test_the_sentence_says_who_by_how_much_and_since_when():
    feature = make_feature()
    a_minute(feature, slow=4, of=40, extra_ms=1500)
    found = ask(feature)
    assert attributed(found.cause, found.document(), [RELEASE]) == "Tools +1.50 s since v412 (02:51 UTC)."
    assert attributed(found.cause, found.document(), []) == "Tools +1.50 s."
    assert (
        attributed(found.cause, found.document(), [{**RELEASE, "components": ["model"]}]) == "Tools +1.50 s."
    )
    assert how_attributed(found.cause, found.document(), [RELEASE]) == (
        "Cause, by the requests themselves: tools, +1.50 s in those over the latency budget since v412 (02:51 UTC); "
        "had it kept to its allocation, 100 % of them would have been in time."
    )


def test_by_allocations_the_sentence_says_so():
    feature = make_feature()
    a_minute(feature, slow=10, of=40, traced=False)
    found = ask(feature)
    assert attributed(found.cause, found.document(), [RELEASE]) == "tools: p99 2.90 s of 800 ms allocated."
    assert how_attributed(found.cause, found.document(), [RELEASE]) == (
        "Cause, by allocations, as too few requests carry trace ids: tools, p99 2.90 s of 800 ms allocated."
    )


def test_the_least_numbers_are_those_that_are_documented():
    assert (asked.MIN_OVER, asked.MIN_WITHIN) == (3, 10)
