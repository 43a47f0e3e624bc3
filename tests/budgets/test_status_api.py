"""GET features/{feature}/status against numbers computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from budgets import rollups
from budgets.features import declare_feature
from budgets.models import Feature
from budgets.partitions import drop_expired, existing_days
from budgets.retention import drop_expired_rows
from tests.api import Api, error_code
from tests.factories import NOW, feature_document, make_feature, measure, measurement

TO = datetime(2026, 11, 21, 20, 1, tzinfo=UTC)
"""The end of the minute that contains NOW, 20:00:30."""
FIRST_TOKEN: dict[str, Any] = {
    "milestone": "first_token",
    "budget_ms": 3000,
    "objective": 0.99,
    "window_days": 28,
    "allocations": {"model": 1500, "retrieval": 400},
}
COMPLETE: dict[str, Any] = {
    "milestone": "complete",
    "budget_ms": 8000,
    "objective": 0.95,
    "window_days": 28,
    "allocations": {"tools": 800},
}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature(api: Api) -> Feature:
    """First token in 3 s for 99 %; model 1500 ms, retrieval 400 ms, tools and overhead without allocation."""
    return make_feature(team=api.team, slug="chat", latency_budgets=[FIRST_TOKEN])


def add(
    feature: Feature,
    *durations_ms: float,
    at: datetime = NOW - timedelta(seconds=10),
    status: str = "ok",
    **where: str,
) -> None:
    """Measurements that ended at an instant; a milestone's where nothing else is said."""
    target = where if "component" in where else {"milestone": "first_token", **where}
    items = [
        measurement(feature, ended_at=at, duration_ms=ms, status=status, **target) for ms in durations_ms
    ]
    measure(feature.team, items, now=at)


def status(api: Api, **query: Any) -> dict[str, Any]:
    response = api.get("features/chat/status", **query)
    assert response.status_code == 200, response.content
    return response.json()


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [one for one in document["components"] if one["component"] == name]
    return found


def burn_rates(document: dict[str, Any]) -> dict[str, tuple[int, int, float | None]]:
    return {one["window"]: (one["total"], one["bad"], one["burn_rate"]) for one in document["burn_rates"]}


# -- the whole document -----------------------------------------------------------------------------


def test_a_status_by_hand(api: Api, feature: Feature) -> None:
    add(feature, *[1000] * 196)
    add(feature, 3000)  # not over: the budget may be taken whole
    add(feature, 3000.001)
    add(feature, 50, status="error")
    add(feature, 30_000, status="timeout")
    add(feature, *[100] * 5, component="retrieval")
    document = status(api)
    assert {name: document[name] for name in ("feature", "milestone", "environment", "as_of", "state")} == {
        "feature": "chat",
        "milestone": "first_token",
        "environment": "production",
        "as_of": "2026-11-21T20:00:30Z",
        "state": "breached",
    }
    assert document["latency_budget"] == {
        "budget_ms": 3000,
        "objective": 0.99,
        "window_days": 28,
        "version": 1,
        "effective_from": "2026-11-21T20:00:00Z",
        "unallocated_ms": 1100,
    }
    assert document["window"] == {"from": "2026-10-24T20:00:00Z", "to": "2026-11-21T20:01:00Z"}
    assert document["range"] == document["window"]
    counts = ("total", "judged", "good", "bad", "errors", "timeouts")
    assert [document[name] for name in counts] == [200, 200, 197, 3, 1, 1]
    assert document["sli_ratio"] == 0.985
    assert document["error_budget"] == {"allowed_bad": 2.0, "consumed_ratio": 1.5, "remaining_ratio": -0.5}
    assert document["burn_rates"] == [
        {
            "window": window,
            "from": start,
            "to": "2026-11-21T20:01:00Z",
            "total": 200,
            "bad": 3,
            "burn_rate": 1.5,
        }
        for window, start in (
            ("5m", "2026-11-21T19:56:00Z"),
            ("30m", "2026-11-21T19:31:00Z"),
            ("1h", "2026-11-21T19:01:00Z"),
            ("2h", "2026-11-21T18:01:00Z"),
            ("6h", "2026-11-21T14:01:00Z"),
            ("1d", "2026-11-20T20:01:00Z"),
            ("3d", "2026-11-18T20:01:00Z"),
        )
    ]
    assert document["percentiles_ms"] == {
        "p50": pytest.approx(1000, rel=0.011),
        "p95": pytest.approx(1000, rel=0.011),
        "p99": pytest.approx(3000, rel=0.011),
    }
    assert document["components"] == [
        {
            "component": "model",
            "allocated_ms": 1500,
            "total": 0,
            "judged": 0,
            "over": 0,
            "errors": 0,
            "timeouts": 0,
            "percentiles_ms": {"p50": None, "p95": None, "p99": None},
            "state": "no_data",
        },
        {
            "component": "retrieval",
            "allocated_ms": 400,
            "total": 5,
            "judged": 5,
            "over": 0,
            "errors": 0,
            "timeouts": 0,
            "percentiles_ms": dict.fromkeys(("p50", "p95", "p99"), pytest.approx(100, rel=0.011)),
            "state": "ok",
        },
    ]


def test_without_data_counts_are_0_and_everything_else_is_null(api: Api, feature: Feature) -> None:
    document = status(api)
    assert document["state"] == "no_data"
    counts = ("total", "judged", "good", "bad", "errors", "timeouts")
    assert [document[name] for name in counts] == [0] * 6
    assert document["sli_ratio"] is None
    assert document["error_budget"] == {
        "allowed_bad": 0.0,
        "consumed_ratio": None,
        "remaining_ratio": None,
    }
    assert set(burn_rates(document).values()) == {(0, 0, None)}
    assert document["percentiles_ms"] == {"p50": None, "p95": None, "p99": None}
    assert {one["state"] for one in document["components"]} == {"no_data"}


def test_a_milestone_without_a_latency_budget_has_none_of_what_comes_from_one(
    api: Api, feature: Feature
) -> None:
    add(feature, 100, 9000, milestone="complete")
    document = status(api, milestone="complete")
    assert [document[name] for name in ("latency_budget", "error_budget", "burn_rates")] == [None] * 3
    assert [document[name] for name in ("total", "judged", "good", "bad", "sli_ratio")] == [2, 0, 0, 0, None]
    assert document["percentiles_ms"]["p50"] == pytest.approx(100, rel=0.011)
    assert document["components"] == []


# -- judging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration_ms", "how", "good"),
    [
        (2999.999, "ok", 1),
        (3000, "ok", 1),
        (3000.001, "ok", 0),
        (0, "ok", 1),
        (1, "error", 0),
        (9000, "error", 0),
        (1, "timeout", 0),
        (9000, "timeout", 0),
    ],
)
def test_good_is_ok_and_within_the_latency_budget(
    api: Api, feature: Feature, duration_ms: float, how: str, good: int
) -> None:
    add(feature, duration_ms, status=how)
    document = status(api)
    assert (document["judged"], document["good"], document["bad"]) == (1, good, 1 - good)


def test_an_error_of_a_component_is_neither_good_nor_over(api: Api, feature: Feature) -> None:
    add(feature, 9000, 1, status="error", component="model")
    add(feature, 1, status="timeout", component="model")
    add(feature, 1500, 1500.5, component="model")
    found = component(status(api), "model")
    names = ("total", "judged", "over", "errors", "timeouts")
    assert [found[name] for name in names] == [5, 5, 2, 2, 1]


# -- percentiles ------------------------------------------------------------------------------------


def test_errors_are_no_part_of_percentiles(api: Api, feature: Feature) -> None:
    add(feature, *[1] * 500, status="error")
    add(feature, *[2000] * 3)
    assert status(api)["percentiles_ms"]["p50"] == pytest.approx(2000, rel=0.011)


@pytest.mark.parametrize(
    ("oks", "timeouts", "expected"),
    [
        ([100] * 99, [30_000], [100, 100, 100]),
        ([100] * 98, [30_000] * 2, [100, 100, {"at_least": 30_000}]),
        ([100] * 50, [30_000] * 50, [100, {"at_least": 30_000}, {"at_least": 30_000}]),
        ([], [30_000, 20_000], [{"at_least": 20_000}] * 3),
        ([40_000], [30_000, 30_000, 35_000], [{"at_least": 40_000}] * 3),
    ],
    ids=["1 %", "2 %", "50 %", "all", "an answer after a timeout"],
)
def test_a_percentile_among_timeouts_is_a_lower_bound(
    api: Api, feature: Feature, oks: list[float], timeouts: list[float], expected: list[Any]
) -> None:
    if oks:
        add(feature, *oks)
    add(feature, *timeouts, status="timeout")
    found = status(api)["percentiles_ms"]
    for name, one in zip(("p50", "p95", "p99"), expected, strict=True):
        assert found[name] == (one if isinstance(one, dict) else pytest.approx(one, rel=0.011))


# -- windows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "length"),
    [
        ("5m", timedelta(minutes=5)),
        ("30m", timedelta(minutes=30)),
        ("1h", timedelta(hours=1)),
        ("2h", timedelta(hours=2)),
        ("6h", timedelta(hours=6)),
        ("1d", timedelta(days=1)),
        ("3d", timedelta(days=3)),
    ],
)
def test_a_window_holds_its_minutes_up_to_the_end_of_the_one_that_runs(
    api: Api, feature: Feature, window: str, length: timedelta
) -> None:
    add(feature, 9000, at=TO - length - timedelta(microseconds=1))
    assert burn_rates(status(api))[window] == (0, 0, None)
    add(feature, 9000, at=TO - length)
    assert burn_rates(status(api))[window] == (1, 1, 100.0)
    add(feature, 1, at=TO - timedelta(microseconds=1))
    add(feature, 9000, at=TO)
    assert burn_rates(status(api))[window] == (2, 1, 50.0)


@pytest.mark.parametrize("window_days", [7, 28, 30])
def test_the_objectives_window_begins_its_days_ago_on_the_hour(
    api: Api, feature: Feature, window_days: int
) -> None:
    declare(feature, FIRST_TOKEN | {"window_days": window_days}, at=NOW - timedelta(days=60))
    begins = datetime(2026, 11, 21, 20, tzinfo=UTC) - timedelta(days=window_days)
    add(feature, 9000, at=begins - timedelta(microseconds=1))
    add(feature, 1, 1, at=begins)
    document = status(api)
    assert (document["total"], document["bad"]) == (2, 0)
    assert document["window"] == {
        "from": begins.isoformat().replace("+00:00", "Z"),
        "to": "2026-11-21T20:01:00Z",
    }
    rollups.compact(now=NOW)
    assert status(api) == document


def declare(feature: Feature, *latency_budgets: dict[str, Any], at: datetime) -> None:
    declare_feature(
        team=feature.team,
        slug=feature.slug,
        document=feature_document(latency_budgets=list(latency_budgets)),
        actor="a test",
        now=at,
    )


@pytest.mark.parametrize(
    ("window", "begins"),
    [
        ("5m", "2026-11-21T19:56:00Z"),
        ("30m", "2026-11-21T19:31:00Z"),
        ("1h", "2026-11-21T19:01:00Z"),
        ("2h", "2026-11-21T18:01:00Z"),
        ("6h", "2026-11-21T14:01:00Z"),
        ("1d", "2026-11-20T20:01:00Z"),
        ("3d", "2026-11-18T20:01:00Z"),
        ("7d", "2026-11-14T20:01:00Z"),
        ("28d", "2026-10-24T20:00:00Z"),  # minutes are kept for 14 days: it begins on the hour
    ],
)
def test_window_is_the_range_of_percentiles_and_components_alone(
    api: Api, feature: Feature, window: str, begins: str
) -> None:
    declare(feature, FIRST_TOKEN | {"window_days": 30}, at=NOW - timedelta(days=60))
    edge = datetime.fromisoformat(begins)
    wheres: list[dict[str, str]] = [{"milestone": "first_token"}, {"component": "model"}]
    for where in wheres:
        add(feature, 5000, at=edge - timedelta(seconds=1), **where)
        add(feature, 10, at=edge, **where)
    whole, narrow = status(api), status(api, window=window)
    ranged = ("percentiles_ms", "components", "range")
    assert {k: v for k, v in narrow.items() if k not in ranged} == {
        k: v for k, v in whole.items() if k not in ranged
    }
    assert narrow["range"] == {"from": begins, "to": "2026-11-21T20:01:00Z"}
    assert narrow["percentiles_ms"]["p99"] == pytest.approx(10, rel=0.011)
    assert component(narrow, "model")["total"] == 1
    assert (narrow["total"], component(whole, "model")["total"]) == (2, 2)


@pytest.mark.parametrize("window", ["", "4m", "1w", "5M", "30d", "-5m"])
def test_a_window_that_is_not_offered_is_400(api: Api, feature: Feature, window: str) -> None:
    response = api.get("features/chat/status", window=window)
    assert (response.status_code, error_code(response)) == (400, "invalid_window")


# -- states -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "state"),
    [(0, "ok"), (75, "ok"), (76, "at_risk"), (100, "at_risk"), (101, "breached")],
)
def test_the_milestone_is_at_risk_under_a_quarter_and_breached_below_zero(
    api: Api, feature: Feature, bad: int, state: str
) -> None:
    """10 000 measurements of 99 % may hold 100 bad ones; they were four days ago, where no tier looks."""
    add(feature, *[1] * (10_000 - bad), *[9000] * bad, at=NOW - timedelta(days=4))
    assert status(api)["state"] == state


def test_the_milestone_is_at_risk_while_a_burn_rate_tier_fires(api: Api, feature: Feature) -> None:
    """14.4 × 28/30 = 13.44 over an hour and over five minutes: 14 of 100 bad burn at 14."""
    add(feature, *[1] * 10_000, at=NOW - timedelta(days=4))
    add(feature, *[1] * 9, at=NOW - timedelta(minutes=40))
    assert status(api)["state"] == "ok"
    add(feature, *[9000] * 14, *[1] * 77)
    document = status(api)
    assert burn_rates(document)["1h"] == (100, 14, 14.0)
    assert document["error_budget"]["remaining_ratio"] > 0.25
    assert document["state"] == "at_risk"


@pytest.mark.parametrize(
    ("judged", "over", "state"),
    [
        (300, 0, "ok"),
        (300, 1, "ok"),
        (200, 1, "ok"),
        (199, 1, "at_risk"),
        (1, 1, "at_risk"),
        (2, 2, "at_risk"),
        (3, 3, "breached"),
        (300, 3, "at_risk"),
        (299, 3, "breached"),
    ],
)
def test_a_component_is_breached_over_one_per_cent_with_three_over_and_at_risk_above_half_of_that(
    api: Api, feature: Feature, judged: int, over: int, state: str
) -> None:
    add(feature, *[1] * (judged - over), *[1501] * over, component="model")
    assert component(status(api), "model")["state"] == state


def test_the_state_of_a_component_is_that_of_the_range_shown(api: Api, feature: Feature) -> None:
    add(feature, *[1501] * 3, component="model", at=NOW - timedelta(hours=2))
    add(feature, *[1] * 3, component="model")
    assert component(status(api), "model")["state"] == "breached"
    assert component(status(api, window="1h"), "model")["state"] == "ok"


# -- components -------------------------------------------------------------------------------------


def test_components_are_those_of_the_milestone_and_those_of_none(api: Api, feature: Feature) -> None:
    declare(feature, FIRST_TOKEN, COMPLETE, at=NOW)
    for name in ("model", "tools", "overhead", "reranker"):
        add(feature, 700, component=name)
    first, complete = status(api, milestone="first_token"), status(api, milestone="complete")
    assert [(one["component"], one["allocated_ms"], one["state"]) for one in first["components"]] == [
        ("model", 1500, "ok"),
        ("retrieval", 400, "no_data"),
        ("overhead", None, "unallocated"),
        ("reranker", None, "unallocated"),
    ]
    assert [(one["component"], one["allocated_ms"]) for one in complete["components"]] == [
        ("tools", 800),
        ("overhead", None),
        ("reranker", None),
    ]
    assert component(first, "reranker")["judged"] == 0
    assert component(first, "reranker")["total"] == 1


def test_the_budget_of_first_token_is_the_first_block_of_completes(api: Api, feature: Feature) -> None:
    declare(feature, FIRST_TOKEN, COMPLETE, at=NOW)
    budget = status(api, milestone="complete")["latency_budget"]
    assert (budget["budget_ms"], budget["unallocated_ms"]) == (8000, 8000 - 3000 - 800)


# -- which milestone, environment, release, instant -------------------------------------------------


def test_the_milestone_may_be_left_out_where_there_is_one(api: Api, feature: Feature) -> None:
    assert status(api)["milestone"] == "first_token"


def test_where_there_are_several_the_milestone_must_be_named(api: Api, feature: Feature) -> None:
    declare(feature, FIRST_TOKEN, COMPLETE, at=NOW)
    response = api.get("features/chat/status")
    assert (response.status_code, error_code(response)) == (400, "milestone_required")
    assert "first_token, complete" in response.json()["error"]["message"]


def test_of_a_feature_without_promises_the_measured_milestone_is_the_one(api: Api) -> None:
    feature = make_feature(team=api.team, slug="chat", latency_budgets=[])
    assert error_code(api.get("features/chat/status")) == "milestone_required"
    add(feature, 1, milestone="complete")
    assert status(api)["milestone"] == "complete"


@pytest.mark.parametrize("milestone", ["", "last_token", "model", "first_token\0"])
def test_a_milestone_that_is_none_is_400(api: Api, feature: Feature, milestone: str) -> None:
    response = api.get("features/chat/status", milestone=milestone)
    assert (response.status_code, error_code(response)) == (400, "invalid_milestone")


def test_environments_are_apart(api: Api, feature: Feature) -> None:
    add(feature, 1, 1, environment="staging")
    add(feature, 1)
    assert (status(api)["total"], status(api, environment="staging")["total"]) == (1, 2)
    assert status(api, environment="nowhere")["state"] == "no_data"


def test_a_release_can_be_looked_at_alone(api: Api, feature: Feature) -> None:
    add(feature, 1, 1, 9000, release="v1")
    add(feature, 1, release="v2")
    add(feature, 1)
    add(feature, 1, component="model", release="v1")
    assert status(api)["total"] == 5
    document = status(api, release="v1")
    assert (document["total"], document["bad"]) == (3, 1)
    assert component(document, "model")["total"] == 1
    assert burn_rates(document)["5m"][:2] == (3, 1)
    document = status(api, release="v2")
    assert (document["total"], component(document, "model")["total"]) == (1, 0)
    assert status(api, release="")["total"] == 1


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-21T18:30:10Z",
        "2026-11-21T19:30:10+01:00",
        str(datetime(2026, 11, 21, 18, 30, 10, tzinfo=UTC).timestamp()),
    ],
)
def test_a_status_is_given_as_of_any_instant(api: Api, feature: Feature, at: str) -> None:
    add(feature, 1, at=datetime(2026, 11, 21, 18, 30, 59, tzinfo=UTC))
    add(feature, 1, at=datetime(2026, 11, 21, 18, 31, 0, tzinfo=UTC))
    document = status(api, at=at)
    assert (document["as_of"], document["total"]) == ("2026-11-21T18:30:10Z", 1)
    assert document["window"]["to"] == "2026-11-21T18:31:00Z"


@pytest.mark.parametrize(
    "at",
    [
        "now",
        "2026-11-21",
        "2026-11-21T20:00:00",
        "2026-13-01T00:00:00Z",
        "nan",
        "inf",
        "-1",
        "1e400",
        "1e300",
        "99999-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "\0",
    ],
)
def test_an_instant_that_cannot_be_is_400(api: Api, feature: Feature, at: str) -> None:
    response = api.get("features/chat/status", at=at)
    assert (response.status_code, error_code(response)) == (400, "invalid_instant")


@pytest.mark.parametrize("name", ["environment", "release"])
def test_u0000_in_a_query_is_400(api: Api, feature: Feature, name: str) -> None:
    response = api.get("features/chat/status", **{name: "a\0"})
    assert (response.status_code, error_code(response)) == (400, "invalid_text")


def test_the_latency_budget_is_the_version_in_force_at_that_instant(api: Api, feature: Feature) -> None:
    declare(feature, FIRST_TOKEN | {"budget_ms": 2000, "allocations": {"model": 900}}, at=NOW)
    in_force_from = datetime(2026, 11, 21, 20, 2, tzinfo=UTC)
    before = status(api, at=(in_force_from - timedelta(seconds=1)).isoformat())
    after = status(api, at=in_force_from.isoformat())
    assert [one["latency_budget"]["version"] for one in (before, after)] == [1, 2]
    assert after["latency_budget"]["effective_from"] == "2026-11-21T20:02:00Z"
    assert [component(one, "model")["allocated_ms"] for one in (before, after)] == [1500, 900]


def test_a_later_version_rewrites_nothing_that_was_judged(api: Api, feature: Feature) -> None:
    add(feature, 2500)
    declare(feature, FIRST_TOKEN | {"budget_ms": 2000}, at=NOW)
    add(feature, 2500, at=datetime(2026, 11, 21, 20, 1, 59, tzinfo=UTC))
    add(feature, 2500, at=datetime(2026, 11, 21, 20, 2, 0, tzinfo=UTC))
    document = status(api, at="2026-11-21T20:02:30Z")
    assert (document["judged"], document["good"], document["bad"]) == (3, 2, 1)


def test_a_retired_milestone_is_judged_no_more(api: Api, feature: Feature) -> None:
    add(feature, 9000)
    declare(feature, at=NOW)
    add(feature, 9000, at=datetime(2026, 11, 21, 20, 2, 0, tzinfo=UTC))
    document = status(api, at="2026-11-21T20:02:30Z", milestone="first_token")
    assert (document["latency_budget"], document["burn_rates"], document["state"]) == (None, None, "ok")
    assert (document["total"], document["judged"]) == (2, 1)


# -- what is no longer kept -------------------------------------------------------------------------

LATER = NOW + timedelta(days=15)
"""Minutes of NOW are gone by then, and hours are not."""


@pytest.fixture
def two_weeks_later(api: Api, feature: Feature) -> Iterator[None]:
    """Two minutes were measured, one over and one not; since then all went by its retention."""
    add(feature, 9000, at=NOW.replace(hour=19, minute=58))
    add(feature, 1, 1, 1, at=NOW.replace(minute=0, second=10))
    rollups.compact(now=LATER)
    drop_expired(LATER)
    assert NOW.date() not in existing_days("budgets_rollup_minute")
    with time_machine.travel(LATER, tick=False):
        yield


@pytest.mark.usefixtures("two_weeks_later")
def test_burn_rates_over_minutes_that_are_gone_are_left_out_and_the_others_end_on_the_hour(api: Api) -> None:
    document = status(api, at=NOW.isoformat())
    assert document["as_of"] == "2026-11-21T20:00:30Z"
    assert document["window"] == {"from": "2026-10-24T20:00:00Z", "to": "2026-11-21T20:00:00Z"}
    assert (document["total"], document["bad"]) == (1, 1)
    assert burn_rates(document) == {
        name: (1, 1, pytest.approx(100.0)) for name in ("1h", "2h", "6h", "1d", "3d")
    }
    assert document["burn_rates"][0] == {
        "window": "1h",
        "from": "2026-11-21T19:00:00Z",
        "to": "2026-11-21T20:00:00Z",
        "total": 1,
        "bad": 1,
        "burn_rate": pytest.approx(100.0),
    }
    # By the end of the next hour all of it is there.
    assert status(api, at="2026-11-21T20:59:59Z")["total"] == 4


@pytest.mark.usefixtures("two_weeks_later")
def test_a_window_of_which_the_minutes_are_gone_is_refused(api: Api) -> None:
    response = api.get("features/chat/status", at=NOW.isoformat(), window="30m")
    assert (response.status_code, error_code(response)) == (400, "window_not_kept")
    document = status(api, at=NOW.isoformat(), window="1h")
    assert document["range"] == {"from": "2026-11-21T19:00:00Z", "to": "2026-11-21T20:00:00Z"}
    assert document["percentiles_ms"]["p50"] == pytest.approx(9000, rel=0.011)


@pytest.mark.usefixtures("two_weeks_later")
def test_a_window_that_reaches_back_to_where_minutes_are_gone_begins_on_the_hour(api: Api) -> None:
    at = LATER - timedelta(days=13)
    found = {one["window"]: (one["from"], one["to"]) for one in status(api, at=at.isoformat())["burn_rates"]}
    assert found["3d"] == ("2026-11-20T20:00:00Z", "2026-11-23T20:01:00Z")
    assert found["1d"] == ("2026-11-22T20:01:00Z", "2026-11-23T20:01:00Z")


def test_where_hours_are_gone_windows_are_of_whole_days(api: Api, feature: Feature) -> None:
    add(feature, 9000, 1)
    much_later = NOW + timedelta(days=500)
    rollups.compact(now=much_later)
    drop_expired_rows(now=much_later)
    drop_expired(much_later)
    with time_machine.travel(much_later, tick=False):
        document = status(api, at="2026-11-22T00:30:00Z")
    assert document["window"] == {"from": "2026-10-25T00:00:00Z", "to": "2026-11-22T00:00:00Z"}
    assert (document["total"], document["bad"]) == (2, 1)
    assert burn_rates(document) == {name: (2, 1, pytest.approx(50.0)) for name in ("1d", "3d")}
