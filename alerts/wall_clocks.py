"""Wall clocks of time zones: the instant that a day and a time of day mean, also where clocks change.

A time that the clocks skip in spring means the instant at which it would have been, had they not been put forward: 02:30
of a night without it is 03:30 by the new time. A time that they pass twice in autumn means the first. So says RFC 5545.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo


def instant_of(day: date, at: time, time_zone: str) -> datetime:
    """The instant, in UTC, at which the zone's clocks show this day and time.

    >>> instant_of(date(2026, 3, 28), time(2, 30), "Europe/Berlin").isoformat()
    '2026-03-28T01:30:00+00:00'
    >>> instant_of(date(2026, 3, 29), time(2, 30), "Europe/Berlin").isoformat()  # skipped: 03:30 by the new time
    '2026-03-29T01:30:00+00:00'
    >>> instant_of(date(2026, 10, 25), time(2, 30), "Europe/Berlin").isoformat()  # twice: the first
    '2026-10-25T00:30:00+00:00'
    """
    return datetime.combine(day, at.replace(fold=0), ZoneInfo(time_zone)).astimezone(UTC)


def is_skipped(day: date, at: time, time_zone: str) -> bool:
    """Whether the zone's clocks never show this day and time, because they are put forward over it.

    >>> is_skipped(date(2026, 3, 29), time(2, 30), "Europe/Berlin"), is_skipped(date(2026, 10, 25), time(2, 30), "Europe/Berlin")
    (True, False)
    """
    shown = instant_of(day, at, time_zone).astimezone(ZoneInfo(time_zone))
    return (shown.date(), shown.time()) != (day, at.replace(fold=0))


def local_day(at: datetime, time_zone: str) -> date:
    """The date that the zone's calendars show at this instant."""
    return at.astimezone(ZoneInfo(time_zone)).date()


def clock(at: time) -> str:
    """A time of day as people write it: 09:00, and with seconds where it has any."""
    return at.isoformat("seconds" if at.second else "minutes")


def in_zone(at: datetime, time_zone: str) -> str:
    """An instant by the clock of a zone, with its abbreviation or offset.

    >>> in_zone(datetime(2026, 11, 23, 8, tzinfo=UTC), "Europe/Berlin")
    'Mon 23 Nov, 09:00 CET'
    """
    shown = at.astimezone(ZoneInfo(time_zone))
    return f"{shown:%a} {shown.day} {shown:%b, %H:%M %Z}"
