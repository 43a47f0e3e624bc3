"""How the durations of a component or milestone were spread over time, from rollups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from .bands import Bands, count_by_band
from .limits import limit_history
from .models import Feature, Series
from .status import finest_kept, kept_range, split_target
from .tiles import Totals, read_columns

MAX_COLUMNS: Final = 121
"""Thirty days in columns of six hours, from the hour in which the first of them began."""
_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 10_080, 43_200)
)
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday, so that columns of weeks begin on one


@dataclass(frozen=True, eq=False)
class Distribution:
    """`totals` and the rows of `bands` have an entry for each column, which lies between two neighbouring `edges`.

    The first and the last column may be shorter than the others. `limits` says which latency budget or allocation, in
    ms, held from when: the first from the first edge, None where there was none.
    """

    target: str
    edges: list[datetime]
    totals: list[Totals]
    bands: Bands
    limits: list[tuple[datetime, float | None]]

    def limit_at(self, at: datetime) -> float | None:
        return next((limit_ms for since, limit_ms in reversed(self.limits) if since <= at), None)


def get_distribution(
    feature: Feature, *, target: str, environment: str, start: datetime, end: datetime, now: datetime
) -> Distribution:
    """The durations of one target within [start, end), in some hundred columns at most, over all its releases.

    Raises Refusal for a target that the feature does not have.
    """
    kind, name = split_target(feature, target)
    edges = column_edges(*kept_range(start, end, now), finest=finest_kept(start, now))
    totals = read_columns(Series.objects.ids_of(feature, target, environment=environment), edges)
    return Distribution(
        target=target,
        edges=edges,
        totals=totals,
        bands=count_by_band([one.histogram for one in totals]),
        limits=_limits(feature, kind, name, edges[0], edges[-1]),
    )


def column_edges(start: datetime, end: datetime, *, finest: timedelta) -> list[datetime]:
    """The edges of columns that begin at round times, with the range's own bounds as the first and the last.

    No column but those two is shorter than `finest`, of which rollups are kept.

    >>> at = datetime(2026, 11, 21, 20, 2, tzinfo=UTC)
    >>> edges = column_edges(at, at + timedelta(minutes=360), finest=timedelta(minutes=1))
    >>> len(edges), [f"{edge:%H:%M}" for edge in edges[:3]]
    (122, ['20:02', '20:03', '20:06'])
    """
    span = end - start
    step = next((one for one in _STEPS if one >= finest and span / one <= MAX_COLUMNS), None)
    if step is None:
        step = math.ceil(span / MAX_COLUMNS / _STEPS[-1]) * _STEPS[-1]
    first = _EPOCH + (math.floor((start - _EPOCH) / step) + 1) * step
    inner = [first + n * step for n in range(max(0, math.ceil((end - first) / step)))]
    return [start, *inner, end]


def _limits(
    feature: Feature, kind: str, name: str, start: datetime, end: datetime
) -> list[tuple[datetime, float | None]]:
    history = limit_history(feature.pk, kind, name)
    start_us, end_us = (round(at.timestamp() * 1e6) for at in (start, end))
    changes_us = [start_us, *(at for at in history.from_us if start_us < at < end_us)]
    limits = history.at(np.array(changes_us, dtype=np.int64)).tolist()
    return [
        (datetime.fromtimestamp(at / 1e6, tz=UTC), None if limit != limit else limit)
        for at, limit in zip(changes_us, limits, strict=True)
    ]
