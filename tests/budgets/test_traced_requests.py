"""Requests out of raw measurements and spans, by what a service sent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from django.utils import timezone

from budgets import ingest, rollups, traced_requests
from budgets.models import Feature, IngestKey
from budgets.traced_requests import TracedRequests, read_requests
from tests.factories import NOW, make_feature, make_key, redeclare

pytestmark = pytest.mark.django_db

BEGAN = NOW - timedelta(minutes=2)


def trace(number: int) -> str:
    return f"{number + 1:032x}"


def span(number: int) -> str:
    return f"{number + 1:016x}"


def a_request(feature: Feature, number: int = 0, /, **overrides: Any) -> dict[str, Any]:
    return {
        "feature": feature.slug,
        "trace_id": trace(number),
        "started_at": BEGAN.isoformat(),
        "milestones": {"first_token": 1000},
        "components": [],
        **overrides,
    }


def call(component: str, offset_ms: float | None, duration_ms: float, **more: Any) -> dict[str, Any]:
    found = {"component": component, "offset_ms": offset_ms, "duration_ms": duration_ms, **more}
    return {name: value for name, value in found.items() if value is not None}


def send(feature: Feature, *requests: dict[str, Any], now: datetime = NOW, **body: Any) -> None:
    key = (
        IngestKey.objects.filter(team=feature.team, scopes__contains=["ingest"]).first()
        or make_key(feature.team, "ingest")[0]
    )
    encoded = msgspec.json.encode({"requests": requests, **body})
    answer = ingest.accept(key=key, body=encoded, now=now)
    assert answer.status == 200, answer.document
    assert not answer.document["rejected"], answer.document
    while rollups.roll_up(now=now).is_more:
        pass


def read(feature: Feature, **where: Any) -> TracedRequests:
    arguments = {
        "milestone": "first_token",
        "environment": "production",
        "start": NOW - timedelta(minutes=10),
        "end": NOW,
    }
    return read_requests(feature=feature, **{**arguments, **where})


def parts(feature: Feature, **where: Any) -> list[dict[str, float]]:
    """By request: the components that have a part, and what nobody has as "rest"; by duration."""
    found = read(feature, **where).requests
    rows = []
    for duration_ms, part_ms in zip(found.duration_ms.tolist(), found.part_ms.tolist(), strict=True):
        row = {name: ms for name, ms in zip(found.components, part_ms, strict=True) if ms}
        rows.append({**row, "rest": duration_ms - sum(part_ms)})
    return sorted(rows, key=lambda row: sum(row.values()))


def test_a_request_is_shared_out_along_its_critical_path():
    feature = make_feature()
    calls = [call("retrieval", 100, 300), call("tools", 200, 400), call("model", 650, 300)]
    send(feature, a_request(feature, components=calls))
    assert parts(feature) == [{"retrieval": 100, "tools": 400, "model": 300, "rest": 200}]


def test_nested_calls_have_their_time_and_their_parents_do_not():
    feature = make_feature()
    calls = [
        call("tools", 100, 600, span_id=span(1)),
        call("retrieval", 200, 300, span_id=span(2), parent_span_id=span(1)),
    ]
    send(feature, a_request(feature, components=calls))
    assert parts(feature) == [{"tools": 300, "retrieval": 300, "rest": 400}]


def test_a_component_that_goes_on_after_the_milestone_counts_until_then():
    """The model goes on writing after its first token."""
    feature = make_feature()
    calls = [call("retrieval", 0, 400), call("model", 400, 5600)]
    send(feature, a_request(feature, milestones={"first_token": 1000, "complete": 6000}, components=calls))
    assert parts(feature) == [{"retrieval": 400, "model": 600, "rest": 0}]
    assert parts(feature, milestone="complete") == []  # of which there is no latency budget


def test_several_calls_of_a_component_stand_where_they_were():
    feature = make_feature()
    calls = [call("tools", 0, 200), call("retrieval", 250, 300), call("tools", 600, 300)]
    send(feature, a_request(feature, components=calls))
    assert parts(feature) == [{"tools": 500, "retrieval": 300, "rest": 200}]


def test_calls_without_offsets_count_for_as_long_as_they_took():
    feature = make_feature()
    calls = [call("tools", None, 200), call("tools", None, 250), call("model", None, 400)]
    send(feature, a_request(feature, components=calls))
    assert parts(feature) == [{"tools": 450, "model": 400, "rest": 150}]


def test_calls_that_began_together_and_do_not_fit_one_after_the_other_were_parallel():
    feature = make_feature()
    send(feature, a_request(feature, components=[call("tools", 0, 700), call("retrieval", 0, 900)]))
    assert parts(feature) == [{"retrieval": 900, "rest": 100}]


def test_measurements_that_came_one_by_one_make_a_request_by_their_trace_id():
    feature = make_feature()
    fields = {"feature": feature.slug, "trace_id": trace(7)}
    began = BEGAN.timestamp()
    of_retrieval = {**fields, "component": "retrieval", "started_at": began + 0.1, "duration_ms": 250}
    of_model = {**fields, "component": "model", "started_at": began + 0.5, "duration_ms": 500}
    of_milestone = {**fields, "milestone": "first_token", "started_at": began, "duration_ms": 1000}
    for one in (of_retrieval, of_milestone, of_model):
        send(feature, measurements=[one])
    assert parts(feature) == [{"retrieval": 250, "model": 500, "rest": 250}]


def test_calls_below_the_span_of_the_milestone_are_calls_of_the_request():
    feature = make_feature()
    fields = {"feature": feature.slug, "trace_id": trace(7), "started_at": BEGAN.timestamp()}
    root = {**fields, "milestone": "first_token", "duration_ms": 1000, "span_id": span(1)}
    below = {**fields, "component": "model", "duration_ms": 800, "parent_span_id": span(1)}
    send(feature, measurements=[root, below])
    assert parts(feature) == [{"model": 800, "rest": 200}]


def test_several_requests_of_one_trace_each_have_their_own_calls():
    feature = make_feature()
    later = (BEGAN + timedelta(seconds=20)).isoformat()
    send(
        feature,
        a_request(feature, components=[call("model", 0, 600), call("tools", 700, 100)]),
        a_request(
            feature, started_at=later, milestones={"first_token": 2000}, components=[call("tools", 100, 1500)]
        ),
    )
    assert parts(feature) == [
        {"model": 600, "tools": 100, "rest": 300},
        {"tools": 1500, "rest": 500},
    ]


def test_timeouts_are_over_and_errors_are_left_out():
    feature = make_feature()
    send(
        feature,
        a_request(feature, 1, status="timeout"),
        a_request(feature, 2, status="error", milestones={"first_token": 9000}),
        a_request(feature, 3, milestones={"first_token": 3000}),
        a_request(feature, 4, milestones={"first_token": 3001}),
    )
    found = read(feature).requests
    assert sorted(zip(found.duration_ms.tolist(), found.is_over.tolist(), strict=True)) == [
        (1000, True),
        (3000, False),
        (3001, True),
    ]


def test_requests_without_a_trace_id_are_counted_and_not_looked_at():
    feature = make_feature()
    send(feature, a_request(feature, 1), a_request(feature, 2, trace_id=None))
    found = read(feature)
    assert (found.total, len(found.requests.duration_ms)) == (2, 1)


def test_other_environments_features_and_times_are_not_read():
    feature = make_feature()
    other = make_feature(team=feature.team)
    send(
        feature,
        a_request(feature, 1, environment="staging"),
        a_request(other, 1),
        a_request(feature, 2, started_at=(NOW - timedelta(minutes=11)).isoformat()),
    )
    assert read(feature).total == 0
    assert read(feature, environment="staging").total == 1


def test_each_request_is_judged_by_the_latency_budget_of_its_time():
    feature = make_feature(now=NOW - timedelta(days=1))
    send(feature, a_request(feature, 1, started_at=(NOW - timedelta(minutes=5)).isoformat()))
    budget = {"milestone": "first_token", "budget_ms": 900, "objective": 0.99, "window_days": 28}
    redeclare(feature, latency_budgets=[budget], now=NOW - timedelta(minutes=4))
    send(feature, a_request(feature, 2, started_at=(NOW - timedelta(minutes=1)).isoformat()))
    found = read(feature).requests
    assert sorted(zip(found.limit_ms.tolist(), found.is_over.tolist(), strict=True)) == [
        (900, True),
        (3000, False),
    ]


def test_requests_of_which_no_component_is_known_are_marked():
    feature = make_feature()
    send(feature, a_request(feature, 1), a_request(feature, 2, components=[call("model", 0, 600)]))
    found = read(feature)
    known = dict(
        zip(found.requests.part_ms.sum(axis=1).tolist(), found.with_components.tolist(), strict=True)
    )
    assert known == {0: False, 600: True}


# -- how much is read -------------------------------------------------------------------------------


def many(feature: Feature, count: int, *, over: int) -> None:
    """So many requests over nine minutes, of which so many are over, each with a component that took all of it."""
    began = NOW - timedelta(minutes=9, seconds=30)
    send(
        feature,
        *(
            a_request(
                feature,
                n,
                started_at=(began + timedelta(minutes=9) * n / count).isoformat(),
                milestones={
                    "first_token": 5000 if n % count * over // count != (n - 1) * over // count else 400
                },
                components=[call("model", 0, 400)],
            )
            for n in range(count)
        ),
    )


def test_more_than_are_needed_are_sampled_and_always_the_same(monkeypatch: pytest.MonkeyPatch):
    feature = make_feature()
    many(feature, 300, over=90)
    whole = read(feature)
    assert not whole.is_sampled
    monkeypatch.setattr(traced_requests, "MAX_OVER", 50)
    monkeypatch.setattr(traced_requests, "MAX_WITHIN", 60)
    found = [read(feature) for _ in range(2)]
    assert found[0].is_sampled
    assert found[0].total == 300
    is_over = found[0].requests.is_over
    assert (int(is_over.sum()), int((~is_over).sum())) == (50, 60)
    np.testing.assert_array_equal(found[0].requests.part_ms, found[1].requests.part_ms)
    np.testing.assert_array_equal(found[0].requests.duration_ms, found[1].requests.duration_ms)


def test_of_too_many_measurements_slices_of_the_whole_range_are_read_with_their_components(
    monkeypatch: pytest.MonkeyPatch,
):
    feature = make_feature()
    many(feature, 900, over=90)
    monkeypatch.setattr(traced_requests, "MAX_MEASUREMENTS", 400)
    found = read(feature)
    assert found.is_sampled
    assert 30 <= found.total <= 400
    assert found.requests.is_over.any()
    assert found.with_components.all()
    assert found.requests.part_ms.sum(axis=1).tolist() == [400.0] * len(found.requests.duration_ms)


def test_nothing_measured_is_nothing_to_read():
    found = read(make_feature(), end=timezone.now())
    assert (found.total, len(found.requests.duration_ms), found.is_sampled) == (0, 0, False)
