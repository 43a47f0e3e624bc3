"""Maintenance windows: when they are open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from .models import MaintenanceWindow
from .recurrences import Recurrence, days_of, read_recurrence
from .wall_clocks import instant_of, local_day

# How far ahead the next occurrences are looked for; a leap day comes back after eight years at most.
FORESIGHT: Final = timedelta(days=9 * 366)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that a window is open, in UTC: from its start, for its duration, whatever clocks do meanwhile."""

    starts_at: datetime
    ends_at: datetime


def recurrence_of(window: MaintenanceWindow) -> Recurrence | None:
    """The window's rule; None where it comes once."""
    return read_recurrence(window.recurrence) if window.recurrence else None


def occurrences(window: MaintenanceWindow, *, start: datetime, end: datetime) -> Iterator[Occurrence]:
    """When the window is open at any time between these instants, in order. Whether it is enabled is not asked."""
    recurrence = recurrence_of(window)
    duration = timedelta(minutes=window.duration_minutes)
    until = recurrence.until if recurrence is not None else None
    # A day more on each side: the day of a zone is not that of UTC, and a skipped time falls later.
    first = local_day(start - duration, window.time_zone) - _DAY
    for day in days_of(
        recurrence, window.starts_on, first=first, last=local_day(end, window.time_zone) + _DAY
    ):
        starts_at = instant_of(day, window.starts_at, window.time_zone)
        if isinstance(until, datetime) and starts_at > until:
            return
        if starts_at < end and starts_at + duration > start:
            yield Occurrence(starts_at, starts_at + duration)


def open_at(window: MaintenanceWindow, at: datetime) -> Occurrence | None:
    """The occurrence within which the instant lies; of several the one that ends last."""
    found = occurrences(window, start=at, end=at + timedelta(microseconds=1))
    return max(found, key=lambda one: one.ends_at, default=None)


def next_occurrences(window: MaintenanceWindow, *, now: datetime, count: int = 3) -> list[Occurrence]:
    """The one that is open now, if any, and the next ones: so many, or fewer where no more come."""
    return list(islice(occurrences(window, start=now, end=now + FORESIGHT), count))
