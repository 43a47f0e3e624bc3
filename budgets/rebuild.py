"""Rollups made anew from raw measurements, or compared with them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, overload

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from .errors import Refusal
from .groups import (
    DAY_US,
    HOUR_US,
    NAMES,
    Groups,
    add_up,
    as_instant,
    concatenated,
    fetch_groups,
    group_measurements,
    limits_of,
    read_raw,
    upsert,
)
from .locks import COMPACT, REJUDGE, ROLL_UP, lock, try_lock
from .models import Batch, Feature, Series
from .partitions import existing_days, make_partitions, oldest_kept_day
from .rollups import DAY, HOUR, LEVELS, compact, mark_dirty

# One turn of judging anew: well within the time that a worker's task may take.
REJUDGE_WITHIN = timedelta(seconds=20)


@dataclass
class Rebuilt:
    minutes: int = 0
    differences: list[str] = field(default_factory=list)


def rebuild(
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    feature_ids: Collection[int] | None = None,
    only_check: bool = False,
) -> Rebuilt:
    """Recomputes the rollups of [start, end), widened to whole hours, from raw measurements.

    With `only_check` nothing is changed and `differences` names each rollup that is not what raw gives; the
    days that are touched are compared too. Raises Refusal("raw_incomplete") where the range reaches back
    beyond the raw measurements that are still kept.
    """
    start = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    whole_hours = -(-end.timestamp() // 3600)
    # Nothing ends more than a minute ahead.
    end = min(datetime.fromtimestamp(whole_hours * 3600, tz=UTC), now.astimezone(UTC) + 2 * HOUR)
    require_raw(start, end, now)
    series_ids = _series_of(feature_ids)
    result = Rebuilt()
    days: set[datetime] = set()
    for hour in _hours_with_data(start, end):
        days.add(hour.replace(hour=0))
        if only_check:
            _check_hour(hour, series_ids, result)
        else:
            result.minutes += rebuild_hour(hour, series_ids)
    for day in sorted(days):
        if only_check:
            result.differences += _day_differences(day, series_ids)
        else:
            # At once: who finds an hour dirty takes its day for dirty too.
            with transaction.atomic():
                mark_dirty(_stored("budgets_rollup_day", day, day + DAY, series_ids))
    if not only_check:
        compact(now=now)
    return result


def rejudge(*, now: datetime, within: timedelta = REJUDGE_WITHIN) -> list[int]:
    """Judges anew what is stored of features that got the first version of a latency budget.

    Such a version has been in force always. Gives the ids of the features that are done. It stops after
    `within` and finds the rest at the next call: by the minutes in which a limit was in force and not
    everything was judged, the latest first.
    """
    done: list[int] = []
    deadline = time.monotonic() + within.total_seconds()
    for feature in Feature.objects.exclude(rejudge_requested_at=None).order_by("pk"):
        series_ids = _series_of([feature.pk])
        for hour in _hours_not_judged(series_ids, now):
            if time.monotonic() > deadline:
                return done
            with transaction.atomic():
                if not try_lock(REJUDGE):
                    return done
                rebuild_hour(hour, series_ids)
        compact(now=now)
        Feature.objects.filter(pk=feature.pk, rejudge_requested_at=feature.rejudge_requested_at).update(
            rejudge_requested_at=None
        )
        done.append(feature.pk)
    return done


def _hours_not_judged(series_ids: Collection[int], now: datetime) -> list[datetime]:
    """The hours with minutes that had a limit and were not judged, as far as raw measurements are complete."""
    complete_from = _complete_from(now)
    with transaction.atomic():
        # A roll-up that began before the version was saved may be about to write what it did not judge.
        lock(ROLL_UP)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT series_id, (extract(epoch FROM start) * 1000000)::bigint FROM budgets_rollup_minute"
            " WHERE series_id = ANY(%s) AND start >= %s AND judged < total ORDER BY series_id",
            [list(series_ids), complete_from],
        )
        rows = cursor.fetchall()
    if not rows:
        return []
    minutes = np.array(rows, dtype=np.int64)
    has_limit = ~np.isnan(limits_of(minutes[:, 0], minutes[:, 1]))
    hours = np.unique(minutes[has_limit, 1] // HOUR_US * HOUR_US)
    kept = existing_days("budgets_measurement")
    return [hour for hour in map(as_instant, hours[::-1].tolist()) if hour.date() in kept]


def rebuild_hour(hour: datetime, series_ids: Collection[int] | None) -> int:
    """Recomputes the minutes of these series (None: of all) in a whole hour, and marks what is above them as dirty.

    Gives how many minutes there are now.
    """
    if hour.date() not in existing_days("budgets_rollup_minute"):
        # Apart from the rebuild: until that commits, others would wait for the lock on making partitions.
        make_partitions("budgets_rollup_minute", [hour.date()])
    with transaction.atomic():
        # Alone with the hour: no batch of it is rolled up while it is read and written.
        lock(ROLL_UP)
        wanted = _from_raw(hour, series_ids)
        end = hour + HOUR
        # An hour is derived again also where no minute is left, or ever was, that it came from.
        stored = [
            _stored(table, hour, end, series_ids)
            for table in ("budgets_rollup_minute", "budgets_rollup_hour")
        ]
        with connection.cursor() as cursor:
            condition, parameters = _only(series_ids)
            cursor.execute(
                f"DELETE FROM budgets_rollup_minute WHERE start >= %s AND start < %s {condition}",
                [hour, end, *parameters],
            )
        upsert("budgets_rollup_minute", wanted)
        touched = concatenated(wanted, *stored)
        mark_dirty(touched)
    return len(wanted)


def _check_hour(hour: datetime, series_ids: Collection[int] | None, result: Rebuilt) -> None:
    with transaction.atomic():
        lock(ROLL_UP)
        wanted = _from_raw(hour, series_ids)
        stored = _stored("budgets_rollup_minute", hour, hour + HOUR, series_ids)
        result.minutes += len(wanted)
        result.differences += differences("minute", wanted, stored)
        hours = add_up(wanted, wanted.series_id, wanted.start_us // HOUR_US * HOUR_US)
        result.differences += _clean_differences("hour", hours, hour, series_ids)


def differences(level: str, wanted: Groups, stored: Groups) -> list[str]:
    """One line for each rollup that is missing, too many, or has another value."""
    found = []
    by_key = [
        {
            (int(groups.series_id[n]), int(groups.start_us[n])): tuple(
                _comparable(getattr(groups, name)[n]) for name in NAMES
            )
            for n in range(len(groups))
        }
        for groups in (wanted, stored)
    ]
    for series_id, start_us in sorted(by_key[0].keys() | by_key[1].keys()):
        one, other = (rows.get((series_id, start_us)) for rows in by_key)
        if one == other:
            continue
        at = f"series {series_id}, {level} {as_instant(start_us).isoformat()}"
        if one is None:
            found.append(f"{at}: stored, but there are no raw measurements")
        elif other is None:
            found.append(f"{at}: missing, {one[NAMES.index('total')]} raw measurements")
        else:
            wrong = [
                f"{name} is {b!r}, raw gives {a!r}" if name != "histogram" else "histogram differs"
                for name, a, b in zip(NAMES, one, other, strict=True)
                if a != b
            ]
            found.append(f"{at}: {'; '.join(wrong)}")
    return found


def _comparable(value: Any) -> Any:
    if isinstance(value, np.void):
        return value.tobytes().hex()
    if isinstance(value, np.floating):
        return None if np.isnan(value) else float(value)
    return value if isinstance(value, bytes) else int(value)


def _complete_from(now: datetime) -> datetime:
    """The midnight from which raw measurements are complete: a day is dropped once all of it is beyond the retention."""
    return datetime.combine(
        oldest_kept_day(now, settings.RAW_RETENTION_DAYS), datetime.min.time(), tzinfo=UTC
    )


def require_raw(start: datetime, end: datetime, now: datetime) -> None:
    """Raises Refusal("raw_incomplete") where rollups of [start, end) know what raw measurements no longer tell."""
    complete_from = _complete_from(now)
    incomplete = _has_rollups(start, min(end, complete_from)) if start < complete_from else False
    # The retention may have been shorter than it is now.
    kept = existing_days("budgets_measurement")
    day = max(start.replace(hour=0), complete_from)
    while day < end and not incomplete:
        incomplete = day.date() not in kept and _has_rollups(day, day + DAY)
        day += DAY
    if incomplete:
        raise Refusal(
            "raw_incomplete",
            f"Raw measurements are complete from {complete_from.isoformat()} on at best; a rebuild from "
            f"{start.isoformat()} would lose what only rollups still know. Nothing was changed.",
        )


def _has_rollups(start: datetime, end: datetime) -> bool:
    """Whether there are any of minutes, hours and days that overlap [start, end)."""
    with connection.cursor() as cursor:
        for table in ("budgets_rollup_minute", "budgets_rollup_hour", "budgets_rollup_day"):
            floor = start.replace(hour=0) if table.endswith("day") else start
            cursor.execute(
                f"SELECT EXISTS (SELECT 1 FROM {table} WHERE start >= %s AND start < %s)", [floor, end]
            )
            if cursor.fetchone()[0]:
                return True
    return False


@overload
def _series_of(feature_ids: None) -> None: ...
@overload
def _series_of(feature_ids: Collection[int]) -> list[int]: ...
def _series_of(feature_ids: Collection[int] | None) -> list[int] | None:
    if feature_ids is None:
        return None
    return list(Series.objects.filter(feature_id__in=list(feature_ids)).values_list("pk", flat=True))


def _only(series_ids: Collection[int] | None) -> tuple[str, list[Any]]:
    """The condition for these series and its parameters; for None, none."""
    return ("", []) if series_ids is None else ("AND series_id = ANY(%s)", [list(series_ids)])


def _hours_with_data(start: datetime, end: datetime) -> Iterator[datetime]:
    """The hours of a range that lie on days which have raw measurements or minutes."""
    days = existing_days("budgets_measurement") | existing_days("budgets_rollup_minute")
    hour = start
    while hour < end:
        if hour.date() in days:
            yield hour
        hour += HOUR


def _from_raw(hour: datetime, series_ids: Collection[int] | None) -> Groups:
    condition, parameters = _only(series_ids)
    # Each state apart, because each has its index.
    is_rolled_up = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM budgets_batch b WHERE b.id = m.batch_id AND b.state = '{state}')"
        for state in (Batch.State.PENDING, Batch.State.FAILED, Batch.State.DISCARDING)
    )
    return group_measurements(*read_raw(f"{is_rolled_up} {condition}", parameters, hour, hour + HOUR))


def _stored(table: str, start: datetime, end: datetime, series_ids: Collection[int] | None) -> Groups:
    condition, parameters = _only(series_ids)
    return fetch_groups(
        f"SELECT {{columns}} FROM {table} WHERE start >= %s AND start < %s {condition}",
        [start, end, *parameters],
    )


def _day_differences(day: datetime, series_ids: Collection[int] | None) -> list[str]:
    """A day against its hours, which have been compared with raw where the range holds them."""
    with transaction.atomic():
        # Neither may an hour change between the two looks.
        lock(ROLL_UP)
        lock(COMPACT)
        hours = _stored("budgets_rollup_hour", day, day + DAY, series_ids)
        wanted = add_up(hours, hours.series_id, hours.start_us // DAY_US * DAY_US)
        return _clean_differences("day", wanted, day, series_ids)


def _clean_differences(
    level: str, wanted: Groups, start: datetime, series_ids: Collection[int] | None
) -> list[str]:
    """Differences of one hour or day, leaving out what is dirty: nobody reads those."""
    dirty, table, _, width, _ = LEVELS[level]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT series_id FROM {dirty} WHERE start = %s", [start])
        is_dirty = [row[0] for row in cursor.fetchall()]
    stored = _stored(table, start, start + width, series_ids)
    clean = (groups.take(~np.isin(groups.series_id, is_dirty)) for groups in (wanted, stored))
    return differences(level, *clean)
