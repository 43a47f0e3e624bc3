"""Rollups made anew from raw measurements, or compared with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection, transaction

from .errors import Refusal
from .groups import (
    DAY_US,
    NAMES,
    Groups,
    add_up,
    as_instant,
    concatenated,
    days_of,
    fetch_groups,
    group_measurements,
    groups_of,
    read_raw,
    upsert,
)
from .locks import ROLL_UP, lock
from .models import Feature
from .partitions import ensure_partitions, existing_days, oldest_kept_day
from .rollups import DAY, HOUR, LEVELS, compact, mark_dirty


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
    _require_raw(start, now)
    series_ids = _series_of(feature_ids)
    result = Rebuilt()
    for hour in _hours_with_data(start, end):
        with transaction.atomic():
            # Alone with the range: no batch of it is rolled up while it is read and written.
            lock(ROLL_UP)
            wanted = _from_raw(hour, series_ids)
            stored = _stored("budgets_rollup_minute", hour, hour + HOUR, series_ids)
            result.minutes += len(wanted)
            if only_check:
                result.differences += differences("minute", wanted, stored)
                result.differences += _hour_differences(wanted, hour, series_ids)
                continue
            _replace_minutes(hour, wanted, stored, series_ids)
    if only_check:
        result.differences += _day_differences(start, end, series_ids)
    else:
        compact(now=now)
    return result


def rejudge(*, now: datetime) -> list[int]:
    """Judges anew what is stored of features that got the first version of a latency budget.

    Such a version has been in force always. Gives the features' ids.
    """
    judged = []
    for feature in Feature.objects.exclude(rejudge_requested_at=None).order_by("pk"):
        requested_at = feature.rejudge_requested_at
        rebuild(start=_complete_from(now), end=now + HOUR, now=now, feature_ids=[feature.pk])
        Feature.objects.filter(pk=feature.pk, rejudge_requested_at=requested_at).update(
            rejudge_requested_at=None
        )
        judged.append(feature.pk)
    return judged


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


def _require_raw(start: datetime, now: datetime) -> None:
    complete_from = _complete_from(now)
    if start < complete_from and _has_rollups_before(start, complete_from):
        raise Refusal(
            "raw_incomplete",
            f"Raw measurements are complete from {complete_from.isoformat()} on; a rebuild from {start.isoformat()} "
            "would lose what only rollups still know. Nothing was changed.",
        )


def _has_rollups_before(start: datetime, end: datetime) -> bool:
    with connection.cursor() as cursor:
        for table in ("budgets_rollup_minute", "budgets_rollup_hour", "budgets_rollup_day"):
            floor = start.replace(hour=0) if table.endswith("day") else start
            cursor.execute(
                f"SELECT EXISTS (SELECT 1 FROM {table} WHERE start >= %s AND start < %s)", [floor, end]
            )
            if cursor.fetchone()[0]:
                return True
    return False


def _series_of(feature_ids: Collection[int] | None) -> list[int] | None:
    if feature_ids is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM budgets_series WHERE feature_id = ANY(%s)", [list(feature_ids)])
        return [row[0] for row in cursor.fetchall()]


def _hours_with_data(start: datetime, end: datetime) -> Iterator[datetime]:
    """The hours of a range that lie on days which have raw measurements or minutes."""
    days = existing_days("budgets_measurement") | existing_days("budgets_rollup_minute")
    hour = start
    while hour < end:
        if hour.date() in days:
            yield hour
        hour += HOUR


def _from_raw(hour: datetime, series_ids: list[int] | None) -> Groups:
    condition = "NOT EXISTS (SELECT 1 FROM budgets_batch b WHERE b.id = m.batch_id AND b.state = 'pending')"
    parameters: list[Any] = []
    if series_ids is not None:
        condition += " AND series_id = ANY(%s)"
        parameters.append(series_ids)
    return group_measurements(*read_raw(condition, parameters, hour, hour + HOUR))


def _stored(table: str, start: datetime, end: datetime, series_ids: list[int] | None) -> Groups:
    condition = "" if series_ids is None else "AND series_id = ANY(%s)"
    return fetch_groups(
        f"SELECT {{columns}} FROM {table} WHERE start >= %s AND start < %s {condition}",
        [start, end, *([] if series_ids is None else [series_ids])],
    )


def _replace_minutes(hour: datetime, wanted: Groups, stored: Groups, series_ids: list[int] | None) -> None:
    with connection.cursor() as cursor:
        condition = "" if series_ids is None else "AND series_id = ANY(%s)"
        cursor.execute(
            f"DELETE FROM budgets_rollup_minute WHERE start >= %s AND start < %s {condition}",
            [hour, hour + HOUR, *([] if series_ids is None else [series_ids])],
        )
    if len(wanted):
        ensure_partitions("budgets_rollup_minute", days_of(wanted.start_us))
        upsert("budgets_rollup_minute", wanted)
    touched = concatenated(wanted, stored) if len(stored) else wanted
    if len(touched):
        mark_dirty(touched)


def _hour_differences(minutes: Groups, hour: datetime, series_ids: list[int] | None) -> list[str]:
    wanted = add_up(minutes, minutes.series_id, np.full(len(minutes), int(hour.timestamp()) * 1_000_000))
    return _clean_differences("hour", wanted, hour, hour + HOUR, series_ids)


def _day_differences(start: datetime, end: datetime, series_ids: list[int] | None) -> list[str]:
    """Days against their hours, which have been compared with raw where the range holds them."""
    first = start.replace(hour=0)
    hours = _stored("budgets_rollup_hour", first, end + DAY, series_ids)
    wanted = add_up(hours, hours.series_id, hours.start_us // DAY_US * DAY_US)
    last = (end - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    return _clean_differences("day", wanted, first, last, series_ids)


def _clean_differences(
    level: str, wanted: Groups, start: datetime, end: datetime, series_ids: list[int] | None
) -> list[str]:
    """Differences at a level, leaving out what is dirty: nobody reads those."""
    dirty_table, table, *_ = LEVELS[level]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT series_id, start FROM {dirty_table} WHERE start >= %s AND start < %s", [start, end]
        )
        dirty = {(series_id, int(at.timestamp()) * 1_000_000) for series_id, at in cursor.fetchall()}
    bounds = int(start.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000

    def clean(groups: Groups) -> Groups:
        keep = np.array(
            [
                (int(series), int(at)) not in dirty and bounds[0] <= at < bounds[1]
                for series, at in zip(groups.series_id, groups.start_us, strict=True)
            ],
            dtype=bool,
        )
        histogram = [packed for packed, kept in zip(groups.histogram, keep.tolist(), strict=True) if kept]
        return groups_of((getattr(groups, name)[keep] for name in NAMES[:-1]), histogram)

    return differences(level, clean(wanted), clean(_stored(table, start, end, series_ids)))
