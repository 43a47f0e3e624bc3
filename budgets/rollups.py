"""Roll-up: pending batches into minutes, minutes into hours, hours into days.

1. `roll_up` claims pending batches, groups their measurements by series and minute, merges the groups into
   the minute rollups and marks the batches, in one transaction: a batch counts once or not at all. One that
   makes this fail is set aside.
2. It marks every hour and day it touched as dirty. Whoever reads takes a dirty hour from its minutes and a
   dirty day from its hours (budgets.tiles), so what is rolled up is seen at once and exactly.
3. `compact` derives hours and days that are over and dirty.

Series are locked in the order of their ids, minutes are written before the marks of hours and days.
budgets.rebuild makes all of it anew from raw measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

import numpy as np
from django.db import connection, transaction

from .failed_batches import comes_of_data, set_aside
from .groups import (
    DAY_US,
    HOUR_US,
    Groups,
    add_up,
    added_together,
    as_instant,
    as_instants,
    fetch_groups,
    group_measurements,
    read_raw,
    upsert,
)
from .locks import COMPACT, ROLL_UP, lock_shared, try_lock
from .models import Batch
from .partitions import existing_days, make_partitions, summarise

# One claim's worth: large enough that a backlog is eaten in few statements, small enough that two workers share it.
CLAIM_MEASUREMENTS = 100_000
CLAIM_BATCHES = 2_000
# Fetched, and so locked, at once: what is left over of them is all that a claim locks in vain.
_FETCHED_AT_ONCE = 20
# Hours derived in one transaction. Roll-ups into them wait meanwhile, and each may bring 60 full histograms:
# 250 busy series are 22 MB of them.
COMPACT_AT_ONCE = 250
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class RolledUp:
    """What one roll-up did. `is_more` says that more batches were pending than one claim takes."""

    batches: int = 0
    measurements: int = 0
    feature_ids: frozenset[int] = frozenset()
    is_more: bool = False
    ended_to: datetime | None = None  # the latest ended_at of all of them
    failed: int = 0  # batches that were set aside
    request_ids: tuple[str, ...] = ()  # of the requests that the batches came with

    def __add__(self, other: RolledUp) -> RolledUp:
        ends = [end for end in (self.ended_to, other.ended_to) if end is not None]
        return RolledUp(
            self.batches + other.batches,
            self.measurements + other.measurements,
            self.feature_ids | other.feature_ids,
            self.is_more or other.is_more,
            max(ends, default=None),
            self.failed + other.failed,
            self.request_ids + other.request_ids,
        )


# -- 1. minutes -------------------------------------------------------------------------------------


def roll_up(*, now: datetime) -> RolledUp:
    """Rolls up one claim's worth of pending batches, exactly once, and says which features were touched.

    Where something in them makes that fail, the claim is halved until the bad batch is alone, which is set aside
    (budgets.failed_batches). Raises what has any other cause; the batches stay pending.
    """
    done = _roll_up(None, now)
    if done.is_more:
        # Each claim of a backlog would scan all that was written since the last sweep did so: a quarter of its time.
        summarise(["budgets_measurement"])
    return done


def _roll_up(only: list[int] | None, now: datetime) -> RolledUp:
    """Rolls up a claim, of these batches or of any, in a transaction; of what failed, each half in one of its own."""
    claimed: list[_Claimed] = []
    made: set[date] = set()
    while True:
        try:
            with transaction.atomic():
                lock_shared(ROLL_UP)
                claimed, is_more = _claim(only)
                missing = _missing_days(claimed) - made
                if not missing:
                    return _merge(claimed, is_more, now)
        except Exception as error:
            if not claimed or not comes_of_data(error):
                raise
            return _without_the_bad(claimed, error, now)
        # Apart from the roll-up: until that commits, others would wait for the lock on making partitions.
        make_partitions("budgets_rollup_minute", missing)
        made |= missing


def _without_the_bad(claimed: list[_Claimed], error: Exception, now: datetime) -> RolledUp:
    """Rolls up all of a claim that failed but for the batches that fail alone."""
    ids = [batch.id for batch in claimed]
    if len(ids) == 1:
        return RolledUp(is_more=True, failed=int(set_aside(ids[0], error, now=now)))
    middle = len(ids) // 2
    return _roll_up(ids[:middle], now) + _roll_up(ids[middle:], now) + RolledUp(is_more=True)


class _Claimed(NamedTuple):
    id: int
    measurements: int
    ended_from: datetime
    ended_to: datetime
    request_id: str


def _claim(only: list[int] | None) -> tuple[list[_Claimed], bool]:
    """Pending batches that no other worker holds, oldest first, up to one claim's worth; whether there are more."""
    condition, parameters = ("", []) if only is None else ("AND id = ANY(%s)", [only])
    claimed: list[_Claimed] = []
    size = 0
    # A cursor on the server locks rows as they are fetched: what lies beyond is free for another worker.
    with connection.chunked_cursor() as cursor:
        cursor.execute(
            "SELECT id, measurement_count, ended_from, ended_to, request_id FROM budgets_batch"
            f" WHERE state = 'pending' {condition} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
            parameters,
        )
        while len(claimed) < CLAIM_BATCHES:
            found = [_Claimed(*row) for row in cursor.fetchmany(_FETCHED_AT_ONCE)]
            for batch in found:
                if claimed and size + batch.measurements > CLAIM_MEASUREMENTS:
                    return claimed, True
                claimed.append(batch)
                size += batch.measurements
            if len(found) < _FETCHED_AT_ONCE:
                return claimed, False
    return claimed, True


def _missing_days(claimed: list[_Claimed]) -> set[date]:
    """The days of these batches that have raw measurements and no partition for their minutes."""
    days = {
        batch.ended_from.date() + timedelta(days=n)
        for batch in claimed
        for n in range((batch.ended_to.date() - batch.ended_from.date()).days + 1)
    }
    # Asked anew each time: one that this process has seen may have been dropped since.
    missing = days - existing_days("budgets_rollup_minute") if days else days
    return missing & existing_days("budgets_measurement") if missing else missing


def _merge(claimed: list[_Claimed], is_more: bool, now: datetime) -> RolledUp:
    """Counts claimed batches in the minutes of their measurements, in the transaction that is open."""
    if not claimed:
        return RolledUp()
    ids = [batch.id for batch in claimed]
    ended_to = max(batch.ended_to for batch in claimed)
    groups = group_measurements(
        *read_raw(
            # As bigint, or the list is not hashed; and their range, which BRIN looks up once and not id by id.
            "batch_id = ANY(%s::bigint[]) AND batch_id BETWEEN %s AND %s",
            [ids, min(ids), max(ids)],
            min(batch.ended_from for batch in claimed),
            ended_to + timedelta(microseconds=1),
        )
    )
    feature_ids: frozenset[int] = frozenset()
    if len(groups):  # nothing where the raw measurements have been dropped by hand
        # Each row is locked from the first look at it to the commit.
        upsert("budgets_rollup_minute", added_together(_lock_minutes(groups), groups))
        mark_dirty(groups)
        feature_ids = _note_seen(groups.series_id, now)
    Batch.objects.filter(pk__in=ids).update(state=Batch.State.ROLLED_UP, rolled_up_at=now)
    return RolledUp(
        batches=len(claimed),
        measurements=sum(batch.measurements for batch in claimed),
        feature_ids=feature_ids,
        is_more=is_more,
        ended_to=ended_to,
        request_ids=tuple(batch.request_id for batch in claimed if batch.request_id),
    )


def _lock_minutes(groups: Groups) -> Groups:
    """The minute rollups that exist already, locked. Those that do not are ours by the locks on their series."""
    with connection.cursor() as cursor:
        # A minute that does not exist yet cannot be locked, and two workers may be about to make it:
        # whoever rolls up a series holds its row until the commit, in the order of ids.
        cursor.execute(
            "SELECT id FROM budgets_series WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE",
            [np.unique(groups.series_id).tolist()],
        )
    return fetch_groups(
        "SELECT {columns} FROM budgets_rollup_minute r"
        " JOIN unnest(%s::int[], %s::timestamptz[]) AS k (series_id, start) USING (series_id, start)"
        " WHERE r.start >= %s AND r.start <= %s",
        [
            groups.series_id.tolist(),
            as_instants(groups.start_us),
            as_instant(int(groups.start_us.min())),
            as_instant(int(groups.start_us.max())),
        ],
    )


# -- 2. dirty hours and days ------------------------------------------------------------------------


def mark_dirty(groups: Groups) -> None:
    """Marks the hours and days of these minutes.

    DO UPDATE and not DO NOTHING: where a compaction holds the mark and is about to delete it, this must wait
    and then make it again, or what is merged here would never reach the hour.
    """
    if not len(groups):
        return
    for table, width_us in (("budgets_dirtyhour", HOUR_US), ("budgets_dirtyday", DAY_US)):
        start_us = groups.start_us // width_us * width_us
        keys = np.unique(np.stack([groups.series_id.astype(np.int64), start_us]), axis=1)
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                INSERT INTO {table} (series_id, start) SELECT * FROM unnest(%s::int[], %s::timestamptz[])
                ORDER BY 1, 2 ON CONFLICT (series_id, start) DO UPDATE SET start = excluded.start
                """,
                [keys[0].tolist(), as_instants(keys[1])],
            )


def _note_seen(series_id: np.ndarray, now: datetime) -> frozenset[int]:
    """Notes that these series were seen today; gives the features they belong to."""
    ids = np.unique(series_id).tolist()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE budgets_series SET last_seen_on = %s WHERE id = ANY(%s) AND last_seen_on < %s",
            [now.date(), ids, now.date()],
        )
        cursor.execute("SELECT DISTINCT feature_id FROM budgets_series WHERE id = ANY(%s)", [ids])
        return frozenset(row[0] for row in cursor.fetchall())


# -- 3. hours and days ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compacted:
    hours: int
    days: int


def compact(*, now: datetime, limit: int = COMPACT_AT_ONCE) -> Compacted:
    """Derives hours and days that are over and dirty; the marks of what it derived go away."""
    hours = _derive("hour", now, limit)
    return Compacted(hours, _derive("day", now, limit))


class _Level(NamedTuple):
    dirty: str
    table: str
    source: str
    width: timedelta
    below: str | None  # the marks that must be gone first


LEVELS = {
    "hour": _Level("budgets_dirtyhour", "budgets_rollup_hour", "budgets_rollup_minute", HOUR, None),
    "day": _Level("budgets_dirtyday", "budgets_rollup_day", "budgets_rollup_hour", DAY, "budgets_dirtyhour"),
}


def _derive(level: str, now: datetime, limit: int) -> int:
    dirty, table, source, width, _ = LEVELS[level]
    derived = 0
    while True:
        with transaction.atomic():
            if not try_lock(COMPACT):
                return derived
            marks = _lock_marks(level, now, limit)
            if not marks:
                return derived
            series_ids, starts = [mark[0] for mark in marks], [mark[1] for mark in marks]
            bounds = min(starts), max(starts) + width
            with connection.cursor() as cursor:
                rows = fetch_groups(
                    # By equality, so that it is a hash join: a range join looks at each key for each row of its series.
                    f"SELECT {{columns}} FROM (SELECT s.*, date_trunc('{level}', s.start, 'UTC') AS whole FROM {source} s"
                    " WHERE s.start >= %s AND s.start < %s) AS r"
                    " JOIN (SELECT series_id AS k_series, start AS k_start FROM unnest(%s::int[], %s::timestamptz[])"
                    " AS k (series_id, start)) AS k ON r.series_id = k.k_series AND r.whole = k.k_start",
                    [*bounds, series_ids, starts],
                )
                width_us = int(width.total_seconds()) * 1_000_000
                upsert(table, add_up(rows, rows.series_id, rows.start_us // width_us * width_us))
                # What a rebuild left without any measurement has no rollup either. By range, so that each is one look
                # into the index: by equality, every minute of its series since the oldest mark was gone through.
                cursor.execute(
                    f"""
                    DELETE FROM {table} r USING unnest(%s::int[], %s::timestamptz[]) AS k (series_id, start)
                    WHERE r.series_id = k.series_id AND r.start = k.start AND NOT EXISTS (
                        SELECT 1 FROM {source} s WHERE s.series_id = k.series_id
                        AND s.start >= k.start AND s.start < k.start + interval '1 {level}'
                        AND s.start >= %s AND s.start < %s)
                    """,
                    [series_ids, starts, *bounds],
                )
                cursor.execute(
                    f"DELETE FROM {dirty} d USING unnest(%s::int[], %s::timestamptz[]) AS k (series_id, start)"
                    " WHERE d.series_id = k.series_id AND d.start = k.start",
                    [series_ids, starts],
                )
        derived += len(marks)


def _lock_marks(level: str, now: datetime, limit: int) -> list[tuple[int, datetime]]:
    """The series and starts of what is over, dirty and can be derived, each mark locked until the commit.

    The oldest, and those within a day of it: what they are derived from lies close together, while all that lies
    between an hour of last week and the last one would have to be looked through. No lock is waited for.
    """
    dirty, _, _, width, below = LEVELS[level]
    is_clean_below = (
        f"NOT EXISTS (SELECT 1 FROM {below} b WHERE b.series_id = d.series_id"
        " AND b.start >= d.start AND b.start < d.start + interval '1 day')"
        if below
        else "true"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT series_id, start FROM {dirty} d WHERE start <= %s AND {is_clean_below}
            ORDER BY start, series_id LIMIT %s FOR UPDATE SKIP LOCKED
            """,
            [now - width, limit],
        )
        marks = cursor.fetchall()
        if marks and below:
            # Between that statement's look at the hours and its lock on a day, a roll-up may have marked both and
            # committed. Who comes later waits for the lock, so a second look is the last that is needed.
            cursor.execute(
                f"""
                SELECT series_id, start FROM unnest(%s::int[], %s::timestamptz[]) AS d (series_id, start)
                WHERE {is_clean_below} ORDER BY start, series_id
                """,
                [[mark[0] for mark in marks], [mark[1] for mark in marks]],
            )
            marks = cursor.fetchall()
    return [mark for mark in marks if mark[1] < marks[0][1] + DAY]
