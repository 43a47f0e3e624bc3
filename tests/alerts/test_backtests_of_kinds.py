"""Backtests of the rules that look at more than counters over windows: what is stored, as their judges see it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection

from alerts.backtests import Study, study_rule
from alerts.lookbacks import observed
from alerts.models import AlertRule
from alerts.observations import Observations
from alerts.pasts import past_of
from alerts.sights import Scene, sights_of
from budgets.histogram import LatencyHistogram
from budgets.limits import budgets_in_force
from budgets.models import Feature, HourRollup, MinuteRollup, Series
from budgets.partitions import ensure_partitions
from budgets.rollups import compact
from budgets.windows import window_counts
from tests.factories import NOW, make_feature, make_traffic, measure, measurement

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
END = NOW.replace(second=0)

RULES: dict[str, dict[str, Any]] = {
    "burn_rate": {"milestone": "first_token"},
    "component_overrun": {"component": "tools"},
    "timeouts": {"component": "tools"},
    "error_budget": {"milestone": "first_token"},
    "threshold": {"milestone": "first_token", "parameters": {"threshold_ms": 700}},
    "trend": {"milestone": "first_token"},
    "forecast": {"milestone": "first_token"},
    "no_data": {"milestone": "first_token"},
    "unallocated_component": {},
}


@pytest.fixture
def feature() -> Feature:
    return make_feature()


def rule_of(feature: Feature, kind: str, **overrides: Any) -> AlertRule:
    return AlertRule(feature=feature, kind=kind, name="mine", **{**RULES[kind], **overrides})


def test_every_kind_has_a_case() -> None:
    assert set(RULES) == set(AlertRule.Kind.values)


# -- what a judge is shown -----------------------------------------------------------------------------


def some_traffic(feature: Feature) -> None:
    """Two days and a half of several releases: durations, timeouts, errors, and a pause before the end."""
    rng = np.random.default_rng(7)
    items = []
    for back in sorted(rng.choice(60 * 60, 1500, replace=False)):
        if back < 40:
            continue
        for _ in range(2):
            where = [
                {"milestone": "first_token"},
                {"milestone": "complete"},
                {"component": "tools"},
                {"component": "lookup"},
            ]
            items.append(
                measurement(
                    feature,
                    ended_at=END - int(back) * MINUTE + timedelta(seconds=float(rng.uniform(1, 50))),
                    duration_ms=float(np.round(rng.lognormal(6, 1), 3)),
                    status=str(rng.choice(["ok", "ok", "ok", "ok", "timeout", "error"])),
                    release=str(rng.choice(["v1", "v2"])),
                    **where[int(rng.integers(4))],
                )
            )
    measure(feature.team, items, now=NOW)


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("kind", RULES)
def test_a_replay_shows_a_judge_what_an_evaluation_shows_it(
    feature: Feature, kind: str, is_compacted: bool
) -> None:
    some_traffic(feature)
    if is_compacted:
        compact(now=NOW)
    kinds = {
        "no_data": {"parameters": {"silent_minutes": 10}},
        "threshold": {"parameters": {"threshold_ms": 700, "window": "6h"}},
    }
    rule = rule_of(feature, kind, **kinds.get(kind, {}))
    budgets = {milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], NOW).items()}
    targets = ["milestone:first_token", "milestone:complete", "component:tools", "component:lookup"]
    _, sights = sights_of(rule, Scene(feature, budgets, targets))
    counts = window_counts([feature.pk], now=NOW)
    seen = Observations(
        [(feature.pk, one) for one in sights.values()], counts, environment="production", now=NOW
    )
    assert sights
    for sight in sights.values():
        past = past_of(
            feature=feature,
            environment="production",
            target=sight.target,
            rules=[sight.judge],
            start=END,
            now=NOW,
        )
        minutes = past.shown_to(sight.judge)
        replayed = observed(sight.judge, minutes, minutes.moment(NOW))
        evaluated = seen.of(feature.pk, sight)
        if hasattr(evaluated, "windows"):
            replayed_windows = {name: as_numbers(replayed.windows[name]) for name in sight.judge.windows}
            assert replayed_windows == {
                name: as_numbers(evaluated.windows[name]) for name in sight.judge.windows
            }
        else:
            np.testing.assert_equal(as_numbers(replayed), as_numbers(evaluated))


def as_numbers(observation: Any) -> Any:
    """Its fields by name, whichever of two classes it is of."""
    if isinstance(observation, tuple):
        return [as_numbers(one) for one in observation]
    if isinstance(observation, float):
        return round(observation, 6)
    if not hasattr(observation, "__dataclass_fields__"):
        return observation
    return {name: as_numbers(getattr(observation, name)) for name in observation.__dataclass_fields__}


# -- four weeks ----------------------------------------------------------------------------------------


def fill(feature: Feature, *, component: str | None = None) -> None:
    """Four weeks as they are kept: hours, and fourteen days of minutes, ten requests in each. Slow on the tenth day
    before the end, silent for an hour on the third."""
    where = (
        {"component": feature.components.get(name=component)} if component else {"milestone": "first_token"}
    )
    series, _ = Series.objects.get_or_create(
        feature=feature, environment="production", release="", defaults={"last_seen_on": NOW.date()}, **where
    )
    kept = END.replace(hour=0, minute=0) - 14 * DAY
    ensure_partitions(MinuteRollup._meta.db_table, [kept.date() + n * DAY for n in range(16)])
    usual = LatencyHistogram.from_values(np.random.default_rng(1).lognormal(6, 0.15, 600)).to_bytes()
    slow = LatencyHistogram.from_values(np.random.default_rng(1).lognormal(6.9, 0.15, 600)).to_bytes()
    for table, start, step, total in (
        (HourRollup, kept - 45 * DAY, HOUR, 600),
        (MinuteRollup, kept, MINUTE, 10),
    ):
        # Of a histogram of 600, every sixtieth minute has the first ten of its buckets, …
        part = "" if table is HourRollup else "substr({0}, 1 + 60 * (extract(minute FROM at)::int %% 12), 60)"
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table._meta.db_table} (series_id, start, total, errors, timeouts, judged, good, over,"
                " sum_us, max_ms, max_ok_ms, scale, zero_count, histogram)"
                " SELECT %(series)s, at, %(total)s, 0, 0, %(total)s, CASE WHEN slow THEN %(total)s / 2 ELSE %(total)s END,"
                " CASE WHEN slow THEN %(total)s / 2 ELSE 0 END, %(total)s * 400000, 4000, 4000, 6, 0,"
                f" CASE WHEN slow THEN {part.format('%(slow)s::bytea') or '%(slow)s'}"
                f" ELSE {part.format('%(usual)s::bytea') or '%(usual)s'} END"
                " FROM generate_series(%(start)s::timestamptz, %(end)s, %(step)s) AS at,"
                " LATERAL (SELECT at >= %(slow_from)s AND at < %(slow_to)s AS slow) AS s"
                " WHERE NOT (at >= %(silent_from)s AND at < %(silent_from)s + interval '1 hour')",
                {
                    "series": series.pk,
                    "total": total,
                    "usual": usual,
                    "slow": slow,
                    "start": start,
                    "end": END - MINUTE if table is MinuteRollup else kept - HOUR,
                    "step": step,
                    "slow_from": kept + 4 * DAY,
                    "slow_to": kept + 5 * DAY + 6 * HOUR,
                    "silent_from": kept + 11 * DAY,
                },
            )


def hours_too(feature: Feature) -> None:
    """What minutes have, by the hour."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO budgets_rollup_hour (series_id, start, total, errors, timeouts, judged, good, over, sum_us,"
            " max_ms, max_ok_ms, scale, zero_count, histogram)"
            " SELECT series_id, date_trunc('hour', start), sum(total), 0, 0, sum(judged), sum(good), sum(over), sum(sum_us),"
            " 4000, 4000, 6, 0, string_agg(histogram, ''::bytea) FROM budgets_rollup_minute"
            " WHERE start < %s GROUP BY 1, 2",
            [END.replace(minute=0)],
        )


def studied(feature: Feature, kind: str, **overrides: Any) -> Study:
    found = study_rule(rule=rule_of(feature, kind, **overrides), now=NOW)
    assert found.note == ""
    [study] = found.by_target.values()
    return study


@pytest.mark.parametrize("kind", RULES)
def test_four_weeks_of_every_kind_are_studied_in_seconds(feature: Feature, kind: str) -> None:
    """Each found the slow day, or the silent hour, of a feature with 600 requests/h."""
    component = None if RULES[kind].get("milestone") else RULES[kind].get("component", "forgotten")
    feature.components.create(name="forgotten", state="observed")
    fill(feature)
    if component:
        fill(feature, component=component)
    hours_too(feature)
    began = time.perf_counter()
    study = studied(feature, kind)
    seconds = time.perf_counter() - began
    found = study.backtest
    # Nothing times out, and what takes its share without an allocation does so from the first day on.
    kept = END.replace(hour=0, minute=0) - 14 * DAY
    expected = {
        "timeouts": [],
        "no_data": [kept + 11 * DAY],
        "unallocated_component": [found.start],
    }.get(kind, [kept + 4 * DAY])
    starts = [one.started_at for one in found.incidents]
    assert len(starts) == len(expected)
    for start, its in zip(starts, expected, strict=True):
        assert its <= start < its + 20 * HOUR
    assert seconds < 6  # 0.1 to 1.4 s were measured; a busy machine takes longer


# -- what is not kept ----------------------------------------------------------------------------------


def test_where_only_hours_are_kept_no_percentile_of_minutes_is_made_up(feature: Feature) -> None:
    fill(feature)
    hours_too(feature)
    study = studied(feature, "threshold", parameters={"threshold_ms": 300})
    kept = END.replace(hour=0, minute=0) - 14 * DAY
    always = study.backtest.incidents[0]  # every p95 is over 300 ms
    assert always.started_at == kept + timedelta(minutes=1, seconds=59)  # when twenty are measured
    assert study.backtest.notes == (
        "Before 7 November 2026, 00:00 UTC only hours are kept, which have no percentile of 5 min: nothing is replayed there.",
    )


def test_percentiles_over_hours_are_replayed_by_hours(feature: Feature) -> None:
    fill(feature)
    hours_too(feature)
    study = studied(feature, "threshold", parameters={"threshold_ms": 300, "window": "2h"})
    [always] = study.backtest.incidents
    assert always.started_at == study.backtest.start.replace(second=59)
    assert study.backtest.notes == (
        "Before 7 November 2026, 00:00 UTC only hours are kept: the percentile is known there as each hour ends.",
    )


def test_a_rule_that_looks_back_further_than_anything_was_measured_says_so(feature: Feature) -> None:
    make_traffic(feature, at=END - 5 * DAY, count=30, over=0, milestone="first_token", now=NOW)
    for kind, length in (("error_budget", "28"), ("forecast", "28")):
        notes = studied(feature, kind).backtest.notes
        assert notes[0] == "Nothing was measured before 16 November 2026, 20:00 UTC."
        assert notes[1] == f"It looks back {length} days and sees less so far, as it would have seen then."
    assert studied(feature, "trend").backtest.notes[1] == (
        "It looks back 2 days. Until 18 November 2026, 21:00 UTC it sees less, as it would have seen then."
    )


def test_silence_of_all_that_is_declared_is_studied_for_each(feature: Feature) -> None:
    make_traffic(feature, at=END - 5 * MINUTE, count=3, over=0, milestone="first_token", now=NOW)
    make_traffic(feature, at=END - 5 * MINUTE, count=3, over=0, component="tools", now=NOW)
    make_traffic(feature, at=END - 5 * MINUTE, count=3, over=0, component="lookup", now=NOW)
    found = study_rule(rule=rule_of(feature, "no_data", milestone=None), now=NOW)
    assert set(found.by_target) == {"milestone:first_token", "component:tools"}


def test_what_nothing_was_measured_of_is_studied_without_a_word_too_many(feature: Feature) -> None:
    for kind in ("burn_rate", "error_budget", "forecast", "threshold", "trend", "no_data"):
        study = studied(feature, kind)
        assert study.backtest.incidents == ()
        assert study.backtest.notes[0].startswith("Nothing was measured between 24 October 2026")
        assert study.explanation.sentences[-1] == (
            "Nothing was measured in the last days, so how soon it would fire cannot be told."
        )
