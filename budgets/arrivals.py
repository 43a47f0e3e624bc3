"""What came of a feature's measurements last: what was received, how it was judged, and what was rejected since.

Read from raw measurements and not from rollups, so that what a POST was just told is what a page says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from django.db import connection

from .limits import limit_histories
from .models import Batch, Feature, Series, Status
from .rejections import rejected_of

BATCHES_READ: Final = 20
MAX_SHOWN: Final = 5
REJECTED_WITHIN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Received:
    """A measurement as it was stored, with the limit in force when it ended; None where there was none."""

    milestone: str | None
    component: str | None
    environment: str
    duration_ms: float
    status: Status
    limit_ms: float | None

    @property
    def is_over(self) -> bool:
        """As it is counted: a timeout is over whatever it took."""
        if self.limit_ms is None:
            return False
        return self.status == Status.TIMEOUT or (
            self.status == Status.OK and self.duration_ms > self.limit_ms
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item, or a whole payload, that was refused within the last hour."""

    received_at: datetime
    key_name: str
    status: int
    where: str
    """The place in the payload, e.g. "measurements[0]"; "" for all of it."""
    code: str
    message: str
    item: str


@dataclass(frozen=True, slots=True)
class Arrivals:
    """`received`: of the newest batch that held any of the feature's, milestones first, at most five; `count` of all
    of them in it. `was_measured`: something was, be it earlier than what was looked at."""

    received_at: datetime | None
    received: list[Received]
    count: int
    rejected: list[Rejected]
    was_measured: bool


def latest_arrivals(feature: Feature, now: datetime) -> Arrivals:
    """What was received of the feature last, and what was rejected since; of the team's newest 20 batches."""
    series = {found.pk: found for found in Series.objects.filter(feature=feature).select_related("component")}
    rows = _newest_batch(feature, list(series)) if series else []
    received_at = rows[0][0] if rows else None
    earliest = max(feature.created_at, now - REJECTED_WITHIN)
    return Arrivals(
        received_at=received_at,
        received=_judged(rows[:MAX_SHOWN], series),
        count=rows[0][5] if rows else 0,
        rejected=[
            Rejected(**one)
            for one in rejected_of(feature, since=max(earliest, received_at or earliest))[:MAX_SHOWN]
        ],
        was_measured=bool(series),
    )


def _newest_batch(feature: Feature, series_ids: list[int]) -> list[tuple[Any, ...]]:
    """(received, series, ended, ms, status, how many) of the newest batch that holds any of these series.

    Each batch names the range in which its measurements ended, which leads to their partitions.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH batch AS (
                SELECT id, received_at, ended_from, ended_to FROM budgets_batch
                WHERE team_id = %s AND state = ANY(%s) ORDER BY id DESC LIMIT %s
            ), found AS (
                SELECT b.id AS batch_id, b.received_at, m.* FROM batch b CROSS JOIN LATERAL (
                    SELECT series_id, ended_at, duration_ms, status FROM budgets_measurement
                    WHERE batch_id = b.id AND ended_at BETWEEN b.ended_from AND b.ended_to AND series_id = ANY(%s)
                ) m
            )
            SELECT f.received_at, f.series_id, f.ended_at, f.duration_ms, f.status, count(*) OVER ()
            FROM found f JOIN budgets_series s ON s.id = f.series_id
            WHERE f.batch_id = (SELECT max(batch_id) FROM found)
            ORDER BY s.milestone IS NULL, s.milestone = 'complete', f.ended_at DESC, s.id LIMIT %s
            """,
            [feature.team_id, [*Batch.LIVE_STATES], BATCHES_READ, series_ids, MAX_SHOWN],
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _judged(rows: list[tuple[Any, ...]], series: dict[int, Series]) -> list[Received]:
    histories = limit_histories([row[1] for row in rows])
    found = []
    for _, series_id, ended_at, duration_ms, status, _ in rows:
        of, history = series[series_id], histories.get(series_id)
        limit = float("nan")
        if history is not None:
            limit = float(history.at(np.array([int(ended_at.timestamp() * 1e6)]))[0])
        found.append(
            Received(
                milestone=of.milestone,
                component=of.component.name if of.component else None,
                environment=of.environment,
                duration_ms=duration_ms,
                status=Status(status),
                limit_ms=None if np.isnan(limit) else limit,
            )
        )
    return found
