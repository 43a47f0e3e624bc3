"""Discarding batches: wrong data goes, and the rollups become what the rest of the raw measurements gives.

1. `discard` marks the batches in one short transaction; from then on no roll-up and no rebuild counts them.
2. `finish_discards` rebuilds each hour that they count in, series by series of theirs, and then deletes their
   raw measurements of it; at the end their spans. It may be interrupted anywhere: a sweep goes on from the marks.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from django.db import connection, transaction
from django.db.models import Count, Max, Min, QuerySet, Sum

from . import audit
from .errors import Refusal
from .locks import DISCARD, ROLL_UP, lock, try_lock
from .models import Batch, IngestKey, Series, Team
from .payloads import MAX_DURATION_MS
from .rebuild import rebuild_hour, require_raw
from .rollups import HOUR, compact

# How many batches one request may discard, and how many are worked on at a time.
MAX_BATCHES = 100_000
AT_ONCE = 2_000
# One turn of the sweep: well within the time that a worker's task may take.
FINISH_WITHIN = timedelta(seconds=30)
MAX_REASON_CHARACTERS = 1_000

# The longest that a measurement may have taken.
LONGEST = timedelta(milliseconds=MAX_DURATION_MS)


@dataclass(frozen=True)
class Extent:
    """What would be, or was, discarded: how many, and between which ends of measurements (inclusive)."""

    batches: int
    measurements: int
    ended_from: datetime | None
    ended_to: datetime | None
    feature_slugs: list[str]

    def __str__(self) -> str:
        """For a person: "2 batches with 31 measurements"."""
        batches = "1 batch" if self.batches == 1 else f"{self.batches} batches"
        return f"{batches} with {self.measurements} measurement{'' if self.measurements == 1 else 's'}"


def discardable(
    team: Team,
    *,
    batch_ids: Collection[int] | None = None,
    key: IngestKey | None = None,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
) -> QuerySet[Batch]:
    """The team's batches that fit all that is given and are not discarded yet; [received_from, received_to)."""
    found = Batch.objects.filter(team=team).exclude(state__in=[Batch.State.DISCARDING, Batch.State.DISCARDED])
    if batch_ids is not None:
        found = found.filter(pk__in=list(batch_ids))
    if key is not None:
        found = found.filter(key=key)
    if received_from is not None:
        found = found.filter(received_at__gte=received_from)
    if received_to is not None:
        found = found.filter(received_at__lt=received_to)
    return found


def extent(batches: QuerySet[Batch]) -> Extent:
    """How much it is, for a person who is about to decide."""
    found = _counted(batches)
    if found.ended_from is None or found.ended_to is None:
        return found
    ids = list(batches.order_by("-pk").values_list("pk", flat=True)[:MAX_BATCHES])
    touched = {series for _, series in _touched(ids, found.ended_from, found.ended_to)}
    slugs = Series.objects.filter(pk__in=touched).values_list("feature__slug", flat=True).distinct()
    return replace(found, feature_slugs=sorted(slugs))


def _counted(batches: QuerySet[Batch]) -> Extent:
    """How much it is by the batches alone: without the features, for which raw measurements are looked through."""
    counted = batches.aggregate(
        batches=Count("pk"),
        measurements=Sum("measurement_count"),
        first=Min("ended_from"),
        last=Max("ended_to"),
    )
    return Extent(counted["batches"], counted["measurements"] or 0, counted["first"], counted["last"], [])


def discard(*, team: Team, batches: QuerySet[Batch], reason: str, actor: str, now: datetime) -> Extent:
    """Takes these batches of the team out of everything, for good. `finish_discards` does the work.

    Raises Refusal: `no_batches` where there are none, `too_many_batches`, `invalid_reason`, and `raw_incomplete`
    where raw measurements of their hours are gone already, so that no rebuild could tell what is left.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON_CHARACTERS or "\0" in reason:
        message = f"Say why, in 1 to {MAX_REASON_CHARACTERS} characters: the audit log keeps it."
        raise Refusal("invalid_reason", f"{message} Nothing was discarded.", fields={"reason": [message]})
    # Before the lock: every roll-up waits for its end, and this may take seconds.
    feature_slugs = extent(batches).feature_slugs
    with transaction.atomic():
        # Alone: no roll-up holds one of them, and none begins.
        lock(ROLL_UP)
        ids = list(batches.order_by("pk").values_list("pk", flat=True)[: MAX_BATCHES + 1])
        if not ids:
            raise Refusal(
                "no_batches",
                "There is no such batch, or it is discarded already. Nothing was discarded.",
                status=404,
            )
        if len(ids) > MAX_BATCHES:
            raise Refusal(
                "too_many_batches",
                f"These are more than {MAX_BATCHES} batches. Choose a shorter range of time; nothing was discarded.",
            )
        chosen = Batch.objects.filter(pk__in=ids)
        found = replace(_counted(chosen), feature_slugs=feature_slugs)
        assert found.ended_from is not None
        assert found.ended_to is not None
        if chosen.exclude(rolled_up_at=None).exists():
            first_hour = found.ended_from.replace(minute=0, second=0, microsecond=0)
            require_raw(first_hour, found.ended_to + timedelta(microseconds=1), now)
        chosen.update(state=Batch.State.DISCARDING, failed_at=None, failure=None)
        audit.record(
            team=team,
            actor=actor,
            action="batches.discarded",
            subject=f"{found.batches} batches" if found.batches > 1 else f"batch {ids[0]}",
            before=None,
            after={
                "reason": reason,
                "batches": found.batches,
                "first_id": ids[0],
                "last_id": ids[-1],
                "measurements": found.measurements,
                "ended_from": found.ended_from.isoformat(),
                "ended_to": found.ended_to.isoformat(),
                "features": found.feature_slugs,
            },
            now=now,
        )
    return found


def finish_discards(*, now: datetime, within: timedelta = FINISH_WITHIN) -> frozenset[int]:
    """Rebuilds what discarded batches touched and deletes their measurements; the features' ids.

    It stops after the hour in which `within` is over and goes on at the next call: an hour that is done holds
    none of their measurements any more. Nothing is done where another call is at it.
    """
    deadline = time.monotonic() + within.total_seconds()
    series_ids: set[int] = set()
    while batches := list(
        Batch.objects.filter(state=Batch.State.DISCARDING)
        .order_by("pk")[:AT_ONCE]
        .values_list("pk", "ended_from", "ended_to", "rolled_up_at")
    ):
        ids = [batch[0] for batch in batches]
        first, last = min(batch[1] for batch in batches), max(batch[2] for batch in batches)
        # The others are in no rollup.
        rolled_up = [batch[0] for batch in batches if batch[3] is not None]
        by_hour: dict[datetime, list[int]] = {}
        for hour, series_id in _touched(rolled_up, first, last) if rolled_up else ():
            by_hour.setdefault(hour, []).append(series_id)
        for hour, of_hour in by_hour.items():
            with transaction.atomic():
                if not try_lock(DISCARD):
                    return _features_of(series_ids)
                rebuild_hour(hour, of_hour)
            # Apart, so that roll-ups do not wait for it; until then the marks keep the rows out of every rebuild.
            _delete_raw("budgets_measurement", rolled_up, hour, hour + HOUR)
            series_ids.update(of_hour)
            if time.monotonic() > deadline:
                return _features_of(series_ids)
        _delete_raw("budgets_measurement", ids, first, last + timedelta(microseconds=1))
        # A span ends up to a request's length before its measurement, and after it where that is a sum.
        _delete_raw("budgets_span", ids, first - LONGEST, last + LONGEST)
        Batch.objects.filter(pk__in=ids, state=Batch.State.DISCARDING).update(
            state=Batch.State.DISCARDED, discarded_at=now
        )
        if time.monotonic() > deadline:
            break
    compact(now=now)
    return _features_of(series_ids)


def _features_of(series_ids: Collection[int]) -> frozenset[int]:
    return frozenset(
        Series.objects.filter(pk__in=list(series_ids)).values_list("feature_id", flat=True).distinct()
    )


def _touched(batch_ids: list[int], first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """The hours, and the series in each, that have measurements of these batches; both in order."""
    with transaction.atomic(), connection.cursor() as cursor:
        # As in budgets.groups.read_raw: BRIN looks a range of batches up; the planner would read the whole day.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            """
            SELECT DISTINCT date_trunc('hour', ended_at, 'UTC') AS hour, series_id FROM budgets_measurement
            WHERE ended_at >= %s AND ended_at <= %s AND batch_id = ANY(%s::bigint[]) AND batch_id BETWEEN %s AND %s
            ORDER BY 1, 2
            """,
            [first, last, batch_ids, min(batch_ids), max(batch_ids)],
        )
        rows = cursor.fetchall()
        cursor.execute("SET LOCAL enable_seqscan = on")
    return [(hour.astimezone(UTC), series_id) for hour, series_id in rows]


def _delete_raw(table: str, batch_ids: list[int], start: datetime, end: datetime) -> None:
    """Deletes the rows of these batches that ended in [start, end)."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            f"DELETE FROM {table} WHERE ended_at >= %s AND ended_at < %s"
            " AND batch_id = ANY(%s::bigint[]) AND batch_id BETWEEN %s AND %s",
            [start, end, batch_ids, min(batch_ids), max(batch_ids)],
        )
        cursor.execute("SET LOCAL enable_seqscan = on")
