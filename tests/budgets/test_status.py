"""Status: the numbers by which a feature is judged are those that its measurements give."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from budgets import rollups
from budgets.burn_rates import BURN_RATE_WINDOWS, State, burn_rate, error_budget
from budgets.errors import Refusal
from budgets.histogram import AtLeast
from budgets.models import Feature, IngestKey, Series
from budgets.partitions import drop_expired
from budgets.status import WINDOWS, FeatureStatus, get_feature_status, get_overview, get_timeseries
from budgets.tiles import Counts, Percentiles
from budgets.windows import LAST_FULL_MINUTE, window_counts
from tests.budgets.brute_force import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Sample,
    counts_of,
    instant,
    is_close,
    percentile_of,
    us,
)
from tests.budgets.histories import (
    BUDGET_MS,
    LIMITS_MS,
    Step,
    histories,
    limit,
    lived,
    post,
    roll_up_all,
    samples_of,
)
from tests.factories import NOW, make_feature, make_key, make_team, redeclare

pytestmark = pytest.mark.django_db

NOW_US = us(NOW)
END_US = NOW_US // MINUTE_US * MINUTE_US + MINUTE_US


def promise(milestone: str = "first_token", budget_ms: float = 3000, **more: Any) -> dict[str, Any]:
    return {"milestone": milestone, "budget_ms": budget_ms, "objective": 0.9, "window_days": 28, **more}


@pytest.fixture
def feature() -> Feature:
    """First token within 3 s for 90 %, of which the model has 1500 ms and retrieval 400."""
    return make_feature(
        now=NOW - timedelta(days=10),
        components=["model", "retrieval", "tools"],
        latency_budgets=[promise(allocations={"model": 1500, "retrieval": 400})],
    )


@pytest.fixture
def key(feature: Feature) -> IngestKey:
    return make_key(feature.team, "ingest")[0]


def measure(feature: Feature, samples: Iterable[Sample]) -> None:
    key = feature.team.ingest_keys.first() or make_key(feature.team, "ingest")[0]
    post(key, feature, samples)
    roll_up_all()


def status(feature: Feature, milestone: str = "first_token", **more: Any) -> FeatureStatus:
    return get_feature_status(feature, milestone=milestone, **{"now": NOW, **more})


def good(count: int, name: str = "first_token", at_us: int = NOW_US, **more: Any) -> list[Sample]:
    return [Sample(name, at_us, 10.0, **more)] * count


def bad(count: int, name: str = "first_token", at_us: int = NOW_US, **more: Any) -> list[Sample]:
    return [Sample(name, at_us, 9000.0, **more)] * count


# -- Against brute force


@settings(max_examples=40, deadline=None)
@given(history=histories, window=st.sampled_from([None, *WINDOWS]), is_compacted=st.booleans())
def test_a_status_is_what_the_samples_give(history: list[Step], window: str | None, is_compacted: bool):
    with lived(history) as feature:
        if is_compacted:
            rollups.compact(now=NOW)
        found = status(feature, "complete", window=window)
        samples = samples_of(history)

        def last(length: timedelta, name: str) -> list[Sample]:
            start_us = END_US - length // timedelta(microseconds=1)
            return [s for s in samples if s.name == name and start_us <= s.ended_us < END_US]

        counts = counts_of(last(timedelta(days=28), "complete"), limit)
        assert found.counts == counts
        assert found.error_budget == error_budget(counts.bad, counts.judged, Decimal("0.99"))
        for rate, (name, length) in zip(found.burn_rates or [], BURN_RATE_WINDOWS.items(), strict=True):
            within = counts_of(last(length, "complete"), limit)
            assert (rate.window, rate.total, rate.bad) == (name, within.judged, within.bad)
            assert rate.burn_rate == burn_rate(within.bad, within.judged, Decimal("0.99"))
            assert (rate.start, rate.end) == (instant(END_US) - length, instant(END_US))

        shown = WINDOWS[window] if window else timedelta(days=28)
        assert_percentiles(found, last(shown, "complete"))
        components = {one.component: one for one in found.components}
        unallocated = {"tools"} if last(shown, "tools") else set()
        assert components.keys() == {"model", "retrieval"} | unallocated
        for name, component in components.items():
            assert component.counts == counts_of(last(shown, name), limit)
            assert component.allocated_ms == LIMITS_MS[name]
            assert_percentiles(component, last(shown, name))


@settings(max_examples=30, deadline=None)
@given(history=histories, minutes_ago=st.integers(0, 2 * 60))
def test_the_windows_of_rules_hold_what_the_samples_give(history: list[Step], minutes_ago: int):
    """At every minute of an hour, the last one included."""
    now = NOW - timedelta(minutes=minutes_ago)
    end = now.replace(second=0) + timedelta(minutes=1)
    windows = {name: (end - length, end) for name, length in BURN_RATE_WINDOWS.items()}
    windows[LAST_FULL_MINUTE] = (end - timedelta(minutes=2), end - timedelta(minutes=1))
    with lived(history) as feature:
        found = window_counts([feature.pk], now=now)
        samples = samples_of(history)
        assert found.keys() == {(feature.pk, target(sample)) for sample in samples}
        for (_, name), its_windows in found.items():
            asked = windows if name == "milestone:complete" else {"5m": windows["5m"]}
            for window, (start, end) in asked.items():
                inside = [s for s in samples if target(s) == name and start <= instant(s.ended_us) < end]
                assert its_windows.get(window, Counts()) == counts_of(inside, limit)
            assert its_windows.keys() <= asked.keys()


def target(sample: Sample) -> str:
    return f"milestone:{sample.name}" if sample.name == "complete" else f"component:{sample.name}"


def assert_percentiles(found: Any, samples: list[Sample]) -> None:
    for name, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
        assert is_close(getattr(found.percentiles_ms, name), percentile_of(samples, q))
    finished = [sample.duration_ms for sample in samples if sample.status != "error"]
    mean_ms = sum(finished) / len(finished) if finished else None
    assert found.mean_ms == (None if mean_ms is None else pytest.approx(mean_ms, abs=0.001))


# -- Milestones


def test_a_status_without_data_says_so_and_divides_nothing(feature: Feature):
    found = status(feature)

    assert found.state is State.NO_DATA
    assert (found.counts.total, found.counts.sli_ratio, found.mean_ms) == (0, None, None)
    assert found.percentiles_ms.p99 is None
    assert found.error_budget is not None
    assert found.error_budget.remaining_ratio is None
    assert {rate.burn_rate for rate in found.burn_rates or []} == {None}
    assert {one.component: one.state for one in found.components} == {
        "model": State.NO_DATA,
        "retrieval": State.NO_DATA,
    }


def test_the_milestone_is_breached_when_more_failed_than_was_allowed(feature: Feature):
    measure(feature, good(90, at_us=NOW_US - 4 * DAY_US) + bad(10, at_us=NOW_US - 4 * DAY_US))
    assert status(feature).error_budget.remaining_ratio == 0
    assert status(feature).state is State.AT_RISK

    measure(feature, bad(1, at_us=NOW_US - 4 * DAY_US))
    assert status(feature).state is State.BREACHED


def test_the_milestone_is_at_risk_while_a_burn_rate_tier_fires(feature: Feature):
    """At 90 % the fastest tier fires above 8: 80 % bad in the last hour and the last five minutes."""
    measure(feature, good(1000, at_us=NOW_US - 5 * DAY_US) + good(1) + bad(9))
    found = status(feature)

    assert found.error_budget.remaining_ratio > 0.9
    assert found.state is State.AT_RISK
    # Seven hours later every short window is over it.
    assert status(feature, now=NOW + timedelta(hours=7)).state is State.OK


def test_a_milestone_without_a_promise_cannot_break_one(feature: Feature):
    measure(feature, bad(3, "complete"))
    found = status(feature, "complete")

    assert (found.state, found.counts.total, found.counts.judged) == (State.OK, 3, 0)
    assert (found.latency_budget, found.error_budget, found.burn_rates) == (None, None, None)
    assert found.window_end - found.window_start >= timedelta(days=28)


def test_a_percentile_among_timeouts_is_at_least_what_was_waited_for(feature: Feature):
    measure(feature, [*good(97), *[Sample("first_token", NOW_US, 30_000.0, "timeout")] * 3])

    found = status(feature).percentiles_ms
    assert found.p95 == pytest.approx(10.0, rel=0.011)
    assert found.p99 == AtLeast(30_000.0)


def test_the_slowest_trace_of_the_range_is_named(feature: Feature):
    trace = "00" * 15 + "07"
    measure(
        feature,
        [
            *good(3, trace_id="f" * 32),
            Sample("first_token", NOW_US - DAY_US, 500.0, trace_id=trace),
            *bad(1, at_us=NOW_US - 9000, status="error", trace_id="e" * 32),
        ],
    )
    rollups.compact(now=NOW)

    assert status(feature).slowest_trace_id == UUID(trace)
    assert status(feature, window="5m").slowest_trace_id == UUID("f" * 32)


def test_the_minute_that_still_runs_counts(feature: Feature):
    minute_us = NOW_US // MINUTE_US * MINUTE_US
    measure(feature, good(1, at_us=minute_us) + good(1, at_us=minute_us - 4 * MINUTE_US - 1))

    assert status(feature).burn_rates[0].total == 1
    assert status(feature, now=NOW - timedelta(minutes=1)).burn_rates[0].total == 1
    assert status(feature).counts.total == 2


def test_the_objectives_window_begins_on_the_hour(feature: Feature):
    found = status(feature)

    assert found.window_start == (NOW - timedelta(days=28)).replace(minute=0, second=0)
    assert (found.window_end, found.range_start) == (instant(END_US), found.window_start)


def test_a_window_longer_than_minutes_are_kept_begins_on_the_hour(feature: Feature, settings: Settings):
    """Its first minutes are gone, and the hour that they were in is not read without them."""
    settings.RAW_RETENTION_DAYS, settings.MINUTE_RETENTION_DAYS = 30, 14
    measure(feature, good(3, at_us=NOW_US - 28 * DAY_US + 20 * MINUTE_US))
    rollups.compact(now=NOW)
    drop_expired(NOW)

    found = status(feature, window="28d")
    assert found.range_start == found.window_start
    assert found.percentiles_ms.p50 == pytest.approx(10.0, rel=0.011)
    assert status(feature, window="7d").range_start == instant(END_US) - timedelta(days=7)


def test_a_status_of_the_past_knows_nothing_of_what_came_after(feature: Feature):
    measure(feature, good(2, at_us=NOW_US - 3 * HOUR_US) + good(5))
    rollups.compact(now=NOW)

    assert status(feature, now=NOW - timedelta(hours=2)).counts.total == 2
    assert status(feature, now=NOW - timedelta(hours=4)).counts.total == 0


def test_the_version_in_force_at_that_time_is_shown(feature: Feature):
    redeclare(feature, latency_budgets=[promise(budget_ms=2000, objective=0.5)], now=NOW - timedelta(hours=1))

    before, after = (status(feature, now=NOW - timedelta(minutes=ago)) for ago in (70, 30))
    assert (before.latency_budget.version, before.latency_budget.budget_ms) == (1, 3000)
    assert (after.latency_budget.version, after.latency_budget.budget_ms) == (2, 2000)
    assert after.latency_budget.objective == Decimal("0.5")
    assert [one.component for one in after.components] == []


def test_a_retired_milestone_has_no_latency_budget_from_then_on(feature: Feature):
    measure(feature, good(1))
    redeclare(feature, latency_budgets=[], now=NOW - timedelta(hours=1))

    assert status(feature).latency_budget is None
    assert status(feature, now=NOW - timedelta(hours=2)).latency_budget is not None


def test_the_first_block_of_complete_is_first_token():
    feature = make_feature(
        latency_budgets=[
            promise("first_token", 3000, allocations={"model": 1500}),
            promise("complete", 8000, allocations={"tools": 4000}),
        ]
    )

    assert status(feature, "first_token").latency_budget.unallocated_ms == 1500
    assert status(feature, "complete").latency_budget.unallocated_ms == 1000


def test_one_release_can_be_looked_at_alone(feature: Feature):
    measure(feature, good(2, release="v1") + bad(1, release="v2") + bad(1, "model", release="v2"))

    assert status(feature).counts.total == 3
    assert status(feature, release="v2").counts == counts_of(bad(1), lambda name, minute_us: BUDGET_MS)
    assert status(feature, release="v1").counts.bad == 0
    assert status(feature, release="").counts.total == 0
    assert [c.counts.total for c in status(feature, release="v2").components] == [1, 0]


def test_environments_are_apart(feature: Feature, key: IngestKey):
    measure(feature, good(2))
    Series.objects.update(environment="staging")

    assert status(feature).counts.total == 0
    assert status(feature, environment="staging").counts.total == 2


def test_an_unknown_window_is_refused(feature: Feature):
    with pytest.raises(Refusal) as refused:
        status(feature, window="4m")
    assert refused.value.code == "invalid_window"


# -- Components


@pytest.mark.parametrize(
    ("over", "judged", "expected"),
    [
        (0, 40, State.OK),
        (2, 40, State.OK),  # half of 10 % exactly
        (3, 40, State.AT_RISK),
        (4, 40, State.AT_RISK),  # 10 % exactly
        (5, 40, State.BREACHED),
        (2, 2, State.AT_RISK),  # fewer than three prove nothing
        (3, 3, State.BREACHED),
    ],
)
def test_a_component_is_judged_over_the_range_that_is_shown(
    feature: Feature, over: int, judged: int, expected: State
):
    measure(
        feature, bad(over, "model") + good(judged - over, "model") + bad(30, "model", NOW_US - 2 * DAY_US)
    )

    [model] = [one for one in status(feature, window="1h").components if one.component == "model"]
    assert (model.counts.over, model.counts.judged, model.state) == (over, judged, expected)


def test_components_stand_as_the_budget_lists_them_and_then_the_costliest_unallocated_ones(feature: Feature):
    measure(feature, good(1, "cache") + bad(1, "tools") + good(1, "retrieval"))
    found = status(feature).components

    assert [one.component for one in found] == ["model", "retrieval", "tools", "cache"]
    assert [one.state for one in found] == [State.NO_DATA, State.OK, State.UNALLOCATED, State.UNALLOCATED]
    assert [one.allocated_ms for one in found] == [1500, 400, None, None]


def test_a_component_of_the_other_milestone_is_not_shown_as_unallocated():
    feature = make_feature(
        latency_budgets=[
            promise("first_token", 3000, allocations={"model": 1500}),
            promise("complete", 8000, allocations={"tools": 4000}),
        ]
    )
    measure(feature, good(1, "model") + good(1, "tools") + good(1, "cache"))

    assert [one.component for one in status(feature, "first_token").components] == ["model", "cache"]
    assert [one.component for one in status(feature, "complete").components] == ["tools", "cache"]


def test_an_archived_component_that_is_still_measured_is_unallocated(feature: Feature):
    redeclare(
        feature,
        components=["model"],
        latency_budgets=[promise(allocations={"model": 1500})],
        now=NOW - timedelta(hours=1),
    )
    measure(feature, good(1, "retrieval"))

    assert {one.component: one.state for one in status(feature).components} == {
        "model": State.NO_DATA,
        "retrieval": State.UNALLOCATED,
    }


# -- Overview


def test_an_overview_holds_each_milestone_that_is_declared_or_measured(feature: Feature):
    measured = make_feature(team=feature.team, latency_budgets=[])
    measure(measured, good(1, "complete"))
    silent = make_feature(team=feature.team, latency_budgets=[])

    found = get_overview([feature, measured, silent], now=NOW)
    assert {pk: list(milestones) for pk, milestones in found.items()} == {
        feature.pk: ["first_token"],
        measured.pk: ["complete"],
        silent.pk: [],
    }


def test_an_overview_says_of_each_feature_what_its_own_status_says(feature: Feature):
    team = feature.team
    others = [
        make_feature(team=team, latency_budgets=[promise("complete", 100, window_days=days)])
        for days in (7, 30)
    ]
    for n, one in enumerate([feature, *others]):
        measure(one, good(n + 1, "complete") + bad(2, at_us=NOW_US - n * DAY_US) + good(1, "model"))

    found = get_overview([feature, *others], now=NOW)
    for one in (feature, *others):
        for milestone, its_status in found[one.pk].items():
            assert its_status == status(one, milestone)


@pytest.mark.parametrize("window", [None, "1h"])
def test_an_overview_without_percentiles_of_components_says_the_same_but_for_these(
    feature: Feature, window: str | None
):
    measure(
        feature,
        good(3) + bad(2, at_us=NOW_US - DAY_US) + good(2, "model") + bad(4, "model") + good(1, "tools"),
    )

    found = get_overview([feature], now=NOW, window=window, with_component_percentiles=False)
    expected = get_overview([feature], now=NOW, window=window)
    assert any(one.counts.over for one in expected[feature.pk]["first_token"].components)
    for milestone, whole in expected[feature.pk].items():
        without = found[feature.pk][milestone]
        bare = [replace(one, percentiles_ms=Percentiles(), mean_ms=None) for one in whole.components]
        assert replace(without, components=[]) == replace(whole, components=[])
        assert sorted(without.components, key=str) == sorted(bare, key=str)


def test_the_number_of_statements_does_not_grow_with_the_features():
    team = make_team()

    def statements(features: list[Feature]) -> int:
        with CaptureQueriesContext(connection) as queries:
            get_overview(features, now=NOW)
        return len(queries)

    features = []
    for n in range(6):
        days = (7, 28, 30)[n % 3]
        feature = make_feature(
            team=team,
            latency_budgets=[
                promise("first_token", allocations={"model": 1500}, window_days=days),
                promise("complete", 8000, window_days=days),
            ],
        )
        measure(feature, good(2) + good(2, "complete") + bad(1, "tools", release=f"v{n}") + good(1, "model"))
        features.append(feature)

    assert statements(features) == statements(features[:1])


def test_an_overview_of_nothing_is_empty():
    assert get_overview([], now=NOW) == {}


# -- Time series


def series(feature: Feature, target: str = "component:model", **more: Any) -> Any:
    return get_timeseries(
        feature, target=target, **{"start": NOW - timedelta(minutes=3), "end": NOW, "now": NOW, **more}
    )


def test_every_step_is_there_and_bounds_are_aligned_outwards(feature: Feature):
    measure(feature, good(2, "model", at_us=NOW_US - 2 * MINUTE_US) + bad(1, "model"))
    found = series(feature)

    minute = instant(NOW_US // MINUTE_US * MINUTE_US)
    assert found.start == [minute - n * timedelta(minutes=1) for n in (3, 2, 1, 0)]
    assert (found.total, found.good, found.over) == ([0, 2, 0, 1], [0, 2, 0, 0], [0, 0, 0, 1])
    assert found.p50[0] is None
    assert found.p50[1] == pytest.approx(10.0, rel=0.011)
    assert found.p99[3] == pytest.approx(9000.0, rel=0.011)


def test_bounds_that_are_aligned_already_stay(feature: Feature):
    minute = instant(NOW_US // MINUTE_US * MINUTE_US)
    found = series(feature, start=minute - timedelta(minutes=2), end=minute, step=60)

    assert found.start == [minute - timedelta(minutes=2), minute - timedelta(minutes=1)]


@pytest.mark.parametrize(("step", "first"), [(3600, "20:00"), (86400, "00:00")])
def test_hours_and_days_hold_what_their_minutes_do(feature: Feature, step: int, first: str):
    measure(feature, good(2, "model", at_us=NOW_US - 9 * HOUR_US) + bad(1, "model"))
    for _ in range(2):
        found = series(feature, step=step, start=NOW - timedelta(days=1), end=NOW)
        assert f"{found.start[-1]:%H:%M}" == first
        assert (sum(found.total), sum(found.over), found.total[-1]) == (3, 1, 1 if step == 3600 else 3)
        rollups.compact(now=NOW)


def test_the_limit_of_each_step_is_the_one_in_force_at_its_beginning(feature: Feature):
    redeclare(feature, latency_budgets=[promise(allocations={"model": 700})], now=NOW - timedelta(minutes=3))

    assert series(feature).limit_ms == [1500, 1500, 700, 700]
    assert series(feature, target="milestone:first_token").limit_ms == [3000] * 4
    assert series(feature, target="component:tools").limit_ms == [None] * 4
    assert series(feature, target="milestone:complete").limit_ms == [None] * 4


def test_the_step_is_the_finest_that_is_kept_and_gives_at_most_1000_points(
    feature: Feature, settings: Settings
):
    settings.MINUTE_RETENTION_DAYS, settings.HOUR_RETENTION_DAYS = 14, 400
    minute = instant(NOW_US // MINUTE_US * MINUTE_US)

    def step(start: datetime, end: datetime) -> float:
        found = series(feature, start=start, end=end)
        assert len(found.start) <= 1000
        return found.step.total_seconds()

    assert step(minute - timedelta(minutes=1000), minute) == 60
    # Not aligned: it touches 1001 minutes.
    half = timedelta(seconds=30)
    assert step(minute + half - timedelta(minutes=1000), minute + half) == 3600
    assert step(NOW - timedelta(days=15), NOW - timedelta(days=15) + timedelta(hours=1)) == 3600
    assert step(NOW - timedelta(days=60), NOW) == 86400
    assert step(NOW - timedelta(days=401), NOW - timedelta(days=400)) == 86400


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target": "component:nothing"}, "unknown_target"),
        ({"target": "milestone:last_token"}, "unknown_target"),
        ({"target": "model"}, "unknown_target"),
        ({"step": 61}, "invalid_step"),
        ({"end": NOW - timedelta(minutes=3)}, "invalid_range"),
        ({"step": 60, "start": NOW - timedelta(days=8)}, "too_many_points"),
        ({"step": 60, "start": NOW - timedelta(days=15), "end": NOW - timedelta(days=14)}, "step_not_kept"),
        ({"step": 3600, "start": NOW - timedelta(days=401), "end": NOW}, "step_not_kept"),
    ],
)
def test_a_time_series_that_cannot_be_is_refused(feature: Feature, changes: dict[str, Any], code: str):
    with pytest.raises(Refusal) as refused:
        series(feature, **changes)
    assert refused.value.code == code


def test_a_release_has_a_time_series_of_its_own(feature: Feature):
    measure(feature, good(1, "model", release="v1") + good(2, "model", release="v2"))

    assert series(feature, release="v2").total[-1] == 2
    assert series(feature, release="v3").total == [0] * 4
    assert series(feature).total[-1] == 3
