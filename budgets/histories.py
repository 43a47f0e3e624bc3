"""What some targets did over longer or other ranges than burn rates need, of all that are asked for at once.

A target is (feature id, "milestone:first_token" or "component:<name>") in one environment, over all its releases.
Each function takes a constant number of statements, however many targets there are, and leaves out those of
which nothing was measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

import numpy as np
import numpy.typing as npt
from django.db import connection

from .burn_rates import objective_window, window_bounds
from .models import Series
from .status import WINDOWS
from .tiles import (
    HOUR,
    QUANTILES,
    Counts,
    Percentile,
    Range,
    Totals,
    read_group_buckets,
    read_group_counts,
    read_group_hours,
    read_ranges,
)

Target = tuple[int, str]
IntArray = npt.NDArray[np.int64]

NO_HOURS: IntArray = np.zeros(0, dtype=np.int64)
"""Of a target of which nothing was measured."""


def objective_counts(
    days_of: Mapping[Target, int], *, environment: str, now: datetime
) -> dict[Target, Counts]:
    """The exact counters of each target over its objective's window, which has 7, 28 or 30 days."""
    groups = _Groups(days_of, environment)
    days = sorted(set(days_of.values()))
    found = read_group_counts(groups.of_series, [Range(*objective_window(now, one)) for one in days])
    by_days = dict(zip(days, found, strict=True))
    return {
        target: by_days[days_of[target]][group]
        for target, group in groups.numbered()
        if group in by_days[days_of[target]]
    }


def hourly_counts(
    days_of: Mapping[Target, int], *, environment: str, now: datetime
) -> dict[Target, tuple[IntArray, IntArray]]:
    """(judged, bad) of each hour of each target's objective window, both of shape (days × 24 + 1,), the running
    hour last."""
    groups = _Groups(days_of, environment)
    if not groups.of_series:
        return {}
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + HOUR
    most = max(days_of.values()) * 24 + 1
    rows = read_group_hours(groups.of_series, end - most * HOUR, end)
    counts = np.zeros((len(groups.targets), most, 2), dtype=np.int64)
    if rows:
        group, hour, judged, good = np.array(rows, dtype=np.int64).T
        place = most - 1 - (int(end.timestamp()) // 3600 - 1 - hour // 3600)
        np.add.at(counts, (group, place), np.stack([judged, judged - good], axis=1))
    measured = set(groups.of_series.values())
    return {
        target: (
            counts[group, -(days_of[target] * 24 + 1) :, 0],
            counts[group, -(days_of[target] * 24 + 1) :, 1],
        )
        for target, group in groups.numbered()
        if group in measured
    }


def percentiles(
    wanted: Collection[tuple[Target, str, str]], *, environment: str, now: datetime
) -> dict[tuple[Target, str, str], tuple[Percentile, int]]:
    """(target, window, "p50" or "p95" or "p99") → the percentile in ms, and of how many durations and timeouts.

    Windows are named as in budgets.status.WINDOWS.
    """
    found: dict[tuple[Target, str, str], tuple[Percentile, int]] = {}
    for window, of_window in groupby(sorted(wanted, key=lambda one: one[1]), key=lambda one: one[1]):
        several = list(of_window)
        groups = _Groups([target for target, _, _ in several], environment)
        bounds = window_bounds(now, WINDOWS[window])
        (totals,) = read_ranges(groups.of_series, [Range(*bounds, with_histogram=True)])
        for target, _, percentile in several:
            its = totals.get(groups.number[target])
            if its is not None:
                found[target, window, percentile] = (its.quantile(QUANTILES[percentile]), _measured(its))
    return found


def hourly_percentiles(
    targets: Collection[Target], *, percentile: str, hours: int, environment: str, now: datetime
) -> dict[Target, list[tuple[Percentile, int]]]:
    """The percentile in ms of each of the last whole hours, the latest last, and of how many durations and
    timeouts: (None, 0) where there were none."""
    groups = _Groups(targets, environment)
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    start = end - hours * HOUR
    found = read_group_buckets(groups.of_series, start, end, HOUR)
    by_target: dict[Target, list[tuple[Percentile, int]]] = {}
    measured = {group for group, _ in found}
    for target, group in groups.numbered():
        if group not in measured:
            continue
        totals = [found.get((group, start + n * HOUR)) for n in range(hours)]
        by_target[target] = [
            (None, 0) if one is None else (one.quantile(QUANTILES[percentile]), _measured(one))
            for one in totals
        ]
    return by_target


@dataclass(frozen=True, slots=True)
class LastMinutes:
    """The start of the last minute in which anything was measured, and the starts of those up to it."""

    last_at: datetime
    minutes: tuple[datetime, ...]


def last_minutes(
    silent_for: Mapping[Target, timedelta],
    *,
    back: timedelta,
    before: timedelta,
    environment: str,
    now: datetime,
) -> dict[Target, LastMinutes]:
    """When each target was last measured, at most `back` and its silence ago.

    Of those that have been silent for as long as is asked of them, all minutes of `before` and that silence up to
    the last one are read; of the others none but the last.
    """
    groups = _Groups(silent_for, environment)
    if not groups.of_series:
        return {}
    horizon = now - back - max(silent_for.values())
    with connection.cursor() as cursor:
        # One probe of the key's index a series and day.
        cursor.execute(
            f"""
            SELECT k.grp, max(latest.start)
            FROM unnest(%(series)s::int[], %(groups)s::int[]) AS k (series_id, grp)
            CROSS JOIN LATERAL (
                SELECT r.start FROM budgets_rollup_minute r
                WHERE r.series_id = k.series_id AND r.start >= {_literal(horizon)} AND r.start < {_literal(now)}
                ORDER BY r.start DESC LIMIT 1
            ) latest
            GROUP BY k.grp
            """,
            {"series": list(groups.of_series), "groups": list(groups.of_series.values())},
        )
        last_at: dict[int, datetime] = {
            group: at.astimezone(UTC)
            for group, at in cursor.fetchall()
            if at >= now - back - silent_for[groups.targets[group]]
        }
        silent = {
            group: silent_for[groups.targets[group]]
            for group, at in last_at.items()
            if now - at >= silent_for[groups.targets[group]]
        }
        minutes: dict[int, list[datetime]] = defaultdict(list)
        if silent:
            series = [(pk, group) for pk, group in groups.of_series.items() if group in silent]
            first = min(last_at[group] - before - its for group, its in silent.items())
            cursor.execute(
                f"""
                SELECT DISTINCT k.grp, r.start
                FROM unnest(%(series)s::int[], %(groups)s::int[], %(since)s::timestamptz[]) AS k (series_id, grp, since)
                JOIN budgets_rollup_minute r
                  ON r.series_id = k.series_id AND r.start >= k.since
                 AND r.start >= {_literal(first)} AND r.start < {_literal(now)}
                """,
                {
                    "series": [pk for pk, _ in series],
                    "groups": [group for _, group in series],
                    "since": [last_at[group] - before - silent[group] for _, group in series],
                },
            )
            for group, at in cursor.fetchall():
                minutes[group].append(at.astimezone(UTC))
    return {
        target: LastMinutes(last_at[group], tuple(sorted(minutes[group])))
        for target, group in groups.numbered()
        if group in last_at
    }


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """The sum of the durations of `measured` requests that ended well or timed out."""

    ms: float
    measured: int


def time_spent(
    feature_ids: Collection[int], *, window: str, environment: str, now: datetime
) -> dict[Target, TimeSpent]:
    """What every milestone and component of these features took, all requests of the window together."""
    groups = _Groups(None, environment, feature_ids)
    (totals,) = read_ranges(groups.of_series, [Range(*window_bounds(now, WINDOWS[window]))])
    return {
        target: TimeSpent((totals[group].sum_us or 0) / 1e3, _measured(totals[group]))
        for target, group in groups.numbered()
        if group in totals
    }


class _Groups:
    """Targets by number, and the number that each of their series counts for."""

    def __init__(
        self, targets: Iterable[Target] | None, environment: str, feature_ids: Collection[int] = ()
    ) -> None:
        self.number: dict[Target, int] = {}
        for target in targets or ():
            self.number.setdefault(target, len(self.number))
        ids = feature_ids if targets is None else {feature_id for feature_id, _ in self.number}
        self.of_series: dict[int, int] = {}
        for pk, feature_id, milestone, component in Series.objects.filter(
            environment=environment, feature_id__in=list(ids)
        ).values_list("pk", "feature_id", "milestone", "component__name"):
            key = (feature_id, f"milestone:{milestone}" if component is None else f"component:{component}")
            if targets is None:
                self.number.setdefault(key, len(self.number))
            if key in self.number:
                self.of_series[pk] = self.number[key]
        self.targets = list(self.number)

    def numbered(self) -> Iterable[tuple[Target, int]]:
        return self.number.items()


def _measured(totals: Totals) -> int:
    return totals.counts.total - totals.counts.errors


def _literal(at: datetime) -> str:
    """In the text, so that the planner leaves out the partitions of other days."""
    return f"'{at.astimezone(UTC).isoformat()}'::timestamptz"
