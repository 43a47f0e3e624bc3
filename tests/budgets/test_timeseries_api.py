"""GET features/{feature}/timeseries against numbers computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from pytest_django import Settings

from budgets import rollups
from budgets.features import declare_feature
from budgets.models import Feature
from tests.api import Api, error_code
from tests.factories import NOW, feature_document, make_feature, measure, measurement

FIRST_TOKEN: dict[str, Any] = {
    "milestone": "first_token",
    "budget_ms": 3000,
    "objective": 0.99,
    "window_days": 28,
    "allocations": {"model": 1500, "retrieval": 400},
}
COLUMNS = ("start", "total", "good", "over", "errors", "timeouts", "limit_ms", "p50", "p95", "p99")


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature(api: Api) -> Feature:
    return make_feature(team=api.team, slug="chat", latency_budgets=[FIRST_TOKEN], now=on(1, 0))


def on(day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, tzinfo=UTC)


def add(
    feature: Feature,
    *durations_ms: float,
    at: datetime,
    status: str = "ok",
    component: str = "model",
    release: str = "",
) -> None:
    """Measurements that ended at an instant."""
    where = {"component": component, "release": release}
    items = [measurement(feature, ended_at=at, duration_ms=ms, status=status, **where) for ms in durations_ms]
    measure(feature.team, items, now=at)


def ask(api: Api, start: datetime | str, end: datetime | str, **query: Any) -> Any:
    bounds = {"from": text(start), "to": text(end)}
    return api.get("features/chat/timeseries", **{"target": "component:model", **bounds, **query})


def text(at: datetime | str) -> str:
    return at if isinstance(at, str) else at.isoformat().replace("+00:00", "Z")


def series(api: Api, start: datetime | str, end: datetime | str, **query: Any) -> dict[str, Any]:
    """The document, whose columns are equally long."""
    response = ask(api, start, end, **query)
    assert response.status_code == 200, response.content
    document: dict[str, Any] = response.json()
    assert len({len(document[name]) for name in COLUMNS}) == 1
    return document


def about(ms: float) -> Any:
    return pytest.approx(ms, rel=0.011)


# -- numbers ----------------------------------------------------------------------------------------


def test_a_time_series_by_hand(api: Api, feature: Feature) -> None:
    add(feature, 100, 200, 1500, 1500.001, at=on(21, 19, 0, 5))
    add(feature, 50, status="error", at=on(21, 19, 0, 59))
    add(feature, 30_000, status="timeout", at=on(21, 19, 2))
    document = series(api, on(21, 19, 0), on(21, 19, 4), step=60)
    assert document == {
        "target": "component:model",
        "step": 60,
        "start": [f"2026-11-21T19:0{minute}:00Z" for minute in range(4)],
        "total": [5, 0, 1, 0],
        "good": [3, 0, 0, 0],
        "over": [1, 0, 1, 0],
        "errors": [1, 0, 0, 0],
        "timeouts": [0, 0, 1, 0],
        "limit_ms": [1500, 1500, 1500, 1500],
        "p50": [about(200), None, {"at_least": 30_000.0}, None],
        "p95": [about(1500), None, {"at_least": 30_000.0}, None],
        "p99": [about(1500), None, {"at_least": 30_000.0}, None],
    }


@pytest.mark.parametrize("is_compacted", [False, True], ids=["fresh", "compacted"])
@pytest.mark.parametrize(("step", "first"), [(3600, on(20, 23)), (86_400, on(20, 0))])
def test_hours_and_days_add_up_their_minutes(
    api: Api, feature: Feature, step: int, first: datetime, is_compacted: bool
) -> None:
    add(feature, 100, 100, at=on(20, 23, 59, 59))
    add(feature, 9000, at=on(21, 0, 0))
    add(feature, 100, status="error", at=on(21, 0, 59, 59))
    if is_compacted:
        rollups.compact(now=NOW + timedelta(days=2))
    document = series(api, on(20, 23, 30), on(21, 0, 30), step=step)
    assert document["start"] == [text(first), text(on(21, 0))]
    assert [document[name] for name in ("total", "good", "over", "errors")] == [
        [2, 2],
        [2, 0],
        [0, 1],
        [0, 1],
    ]
    assert document["p50"] == [about(100), about(9000)]


def test_a_milestone_has_a_time_series_too(api: Api, feature: Feature) -> None:
    items = [measurement(feature, ended_at=on(21, 19), duration_ms=3001, milestone="first_token")]
    measure(feature.team, items, now=on(21, 19))
    document = series(api, on(21, 19), on(21, 19, 1), target="milestone:first_token")
    assert (document["over"], document["limit_ms"]) == ([1], [3000])


def test_releases_and_environments_are_told_apart(api: Api, feature: Feature) -> None:
    add(feature, 1, 1, at=on(21, 19), release="v1")
    add(feature, 1, at=on(21, 19))
    totals = [
        series(api, on(21, 19), on(21, 19, 1), **query)["total"]
        for query in ({}, {"release": "v1"}, {"release": ""}, {"release": "v2"}, {"environment": "staging"})
    ]
    assert totals == [[3], [2], [1], [0], [0]]


def test_what_has_no_limit_is_counted_and_not_judged(api: Api, feature: Feature) -> None:
    add(feature, 100, 9000, at=on(21, 19), component="tools")
    document = series(api, on(21, 19), on(21, 19, 1), target="component:tools")
    assert [document[name] for name in ("total", "good", "over", "limit_ms")] == [[2], [0], [0], [None]]


# -- bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (on(21, 19), on(21, 19, 3), (0, 1, 2)),
        (on(21, 19, 0, 59), on(21, 19, 2, 1), (0, 1, 2)),
        (on(21, 19, 0, 30), on(21, 19, 0, 31), (0,)),
        ("2026-11-21T19:00:59.999999Z", "2026-11-21T19:01:00.000001Z", (0, 1)),
        (str(on(21, 19).timestamp()), str(on(21, 19, 1).timestamp()), (0,)),
        ("2026-11-21T20:00:00+01:00", "2026-11-21T20:01:00+01:00", (0,)),
    ],
)
def test_bounds_are_half_open_and_aligned_outwards(
    api: Api, feature: Feature, start: datetime | str, end: datetime | str, expected: tuple[int, ...]
) -> None:
    document = series(api, start, end, step=60)
    assert document["start"] == [f"2026-11-21T19:0{minute}:00Z" for minute in expected]


def test_a_measurement_at_the_end_belongs_to_the_next_range(api: Api, feature: Feature) -> None:
    add(feature, 1, at=on(21, 19, 1))
    assert series(api, on(21, 19, 0), on(21, 19, 1), step=60)["total"] == [0]
    assert series(api, on(21, 19, 1), on(21, 19, 2), step=60)["total"] == [1]


def test_every_step_is_there_also_where_nothing_was_ever_measured(api: Api, feature: Feature) -> None:
    document = series(api, on(20, 0), on(21, 0), step=3600)
    assert document["start"] == [text(on(20, hour)) for hour in range(24)]
    assert document["total"] == [0] * 24
    assert document["p99"] == [None] * 24


def test_days_begin_at_midnight_in_utc(api: Api, feature: Feature) -> None:
    document = series(api, "2026-11-20T23:30:00+05:00", "2026-11-21T00:30:00+05:00", step=86_400)
    assert document["start"] == ["2026-11-20T00:00:00Z"]


# -- steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "step", "points"),
    [
        (timedelta(minutes=5), 60, 5),
        (timedelta(minutes=1000), 60, 1000),
        (timedelta(minutes=1001), 3600, 17),
        (timedelta(hours=1000), 3600, 1000),
        (timedelta(hours=1001), 86_400, 42),
    ],
)
def test_without_a_step_it_is_the_finest_that_gives_at_most_1000_points(
    api: Api, feature: Feature, settings: Settings, length: timedelta, step: int, points: int
) -> None:
    settings.MINUTE_RETENTION_DAYS = settings.HOUR_RETENTION_DAYS = 1000
    end = on(21, 0)
    document = series(api, end - length, end)
    assert (document["step"], len(document["start"])) == (step, points)


def test_points_are_counted_as_they_will_be_answered(api: Api, feature: Feature) -> None:
    """1000 minutes that begin in the middle of one touch 1001."""
    end = on(21, 19, 0, 30)
    assert series(api, end - timedelta(minutes=1000), end)["step"] == 3600
    assert series(api, end - timedelta(minutes=999), end)["step"] == 60


@pytest.mark.parametrize(
    ("ago", "step"),
    [
        (timedelta(days=14), 60),
        (timedelta(days=14, seconds=1), 3600),
        (timedelta(days=400), 3600),
        (timedelta(days=400, seconds=1), 86_400),
    ],
)
def test_without_a_step_it_is_one_that_is_retained(
    api: Api, feature: Feature, settings: Settings, ago: timedelta, step: int
) -> None:
    settings.MINUTE_RETENTION_DAYS, settings.HOUR_RETENTION_DAYS = 14, 400
    start = NOW - ago
    assert series(api, start, start + timedelta(hours=1))["step"] == step


def test_a_step_that_is_asked_for_is_taken_though_there_is_a_finer_one(api: Api, feature: Feature) -> None:
    assert series(api, on(21, 19), on(21, 20), step=3600)["step"] == 3600


@pytest.mark.parametrize("step", [0, 1, 30, 61, 300, -60, 10**30])
def test_a_step_that_is_not_offered_is_400(api: Api, feature: Feature, step: int) -> None:
    response = ask(api, on(21, 19), on(21, 20), step=step)
    assert response.status_code == 400
    assert error_code(response) in ("invalid_step", "invalid_request")


@pytest.mark.parametrize(("step", "kept_days"), [(60, 14), (3600, 400)])
def test_a_step_that_is_no_longer_kept_is_400_and_no_empty_answer(
    api: Api, feature: Feature, settings: Settings, step: int, kept_days: int
) -> None:
    settings.MINUTE_RETENTION_DAYS, settings.HOUR_RETENTION_DAYS = 14, 400
    oldest = NOW - timedelta(days=kept_days)
    assert ask(api, oldest, oldest + timedelta(hours=1), step=step).status_code == 200
    response = ask(api, oldest - timedelta(seconds=1), oldest + timedelta(hours=1), step=step)
    assert (response.status_code, error_code(response)) == (400, "step_not_kept")


def test_a_range_of_too_many_steps_is_400(api: Api, feature: Feature) -> None:
    response = ask(api, "0", text(NOW), step=60)
    assert (response.status_code, error_code(response)) == (400, "too_many_points")


# -- limits over time -------------------------------------------------------------------------------


def test_the_limit_of_each_step_is_the_one_in_force_at_its_beginning(api: Api, feature: Feature) -> None:
    def declare(*latency_budgets: dict[str, Any], at: datetime) -> None:
        document = feature_document(latency_budgets=list(latency_budgets))
        declare_feature(team=feature.team, slug="chat", document=document, actor="a test", now=at)

    declare(FIRST_TOKEN | {"allocations": {"model": 1000.5}}, at=on(21, 19, 0, 30))  # from 19:02
    declare(at=on(21, 19, 2, 0))  # from 19:03
    declare(FIRST_TOKEN, at=on(21, 19, 3, 1))  # from 19:05
    document = series(api, on(21, 19), on(21, 19, 7), step=60)
    assert document["limit_ms"] == [1500, 1500, 1000.5, None, None, 1500, 1500]
    document = series(api, on(21, 19), on(21, 19, 7), step=60, target="milestone:first_token")
    assert document["limit_ms"] == [3000, 3000, 3000, None, None, 3000, 3000]
    assert series(api, on(21, 18), on(21, 20), step=3600)["limit_ms"] == [1500, 1500]


# -- what cannot be asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "",
        "model",
        "component:",
        "component:nothing",
        "milestone:model",
        "milestone:last_token",
        "x:model",
        ":",
    ],
)
def test_a_target_that_is_not_there_is_400(api: Api, feature: Feature, target: str) -> None:
    response = ask(api, on(21, 19), on(21, 20), target=target)
    assert (response.status_code, error_code(response)) == (400, "unknown_target")


def test_a_component_may_have_a_colon_in_its_name(api: Api, feature: Feature) -> None:
    add(feature, 1, at=on(21, 19), component="tool:search")
    assert series(api, on(21, 19), on(21, 19, 1), target="component:tool:search")["total"] == [1]


@pytest.mark.parametrize(("start", "end"), [(on(21, 20), on(21, 19)), (on(21, 19), on(21, 19))])
def test_a_range_that_does_not_go_forward_is_400(
    api: Api, feature: Feature, start: datetime, end: datetime
) -> None:
    response = ask(api, start, end)
    assert (response.status_code, error_code(response)) == (400, "invalid_range")


@pytest.mark.parametrize("missing", ["target", "from", "to"])
def test_what_is_required_and_missing_is_400_and_named(api: Api, feature: Feature, missing: str) -> None:
    query = {"target": "component:model", "from": "0", "to": "60"}
    del query[missing]
    response = api.get("features/chat/timeseries", **query)
    assert (response.status_code, error_code(response)) == (400, "invalid_request")
    assert list(response.json()["error"]["fields"]) == [missing]


@pytest.mark.parametrize("name", ["from", "to"])
@pytest.mark.parametrize("at", ["", "yesterday", "2026-11-21T20:00:00", "nan", "1e400"])
def test_an_instant_that_cannot_be_is_400_and_named(api: Api, feature: Feature, name: str, at: str) -> None:
    response = ask(api, on(21, 19), on(21, 20), **{name: at})
    assert (response.status_code, error_code(response)) == (400, "invalid_instant")
    assert list(response.json()["error"]["fields"]) == [name]


@pytest.mark.parametrize("name", ["target", "environment", "release"])
def test_u0000_in_a_query_is_400(api: Api, feature: Feature, name: str) -> None:
    response = ask(api, on(21, 19), on(21, 20), **{name: "a\0"})
    assert (response.status_code, error_code(response)) == (400, "invalid_text")
