"""The week or month that a report is about, by the clocks and calendars of a time zone.

A day lasts from midnight to midnight there: 23 or 25 hours where clocks change. Rollups are kept by the hour, so
days that begin between two hours of UTC begin here with the hour that midnight lies in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from .wall_clocks import instant_of, local_day

_MIDNIGHT: Final = time(0)
# When a report is mailed, on the day after its period.
MAILED_AT: Final = time(7)
# As early and as late as anybody means; the calendar ends soon after.
_YEARS: Final = range(1971, 2999)


class Kind(StrEnum):
    """How long a report's period is. Weeks are those of ISO 8601: they begin on Monday."""

    WEEK = "week"
    MONTH = "month"

    @property
    def adjective(self) -> str:
        return "weekly" if self is Kind.WEEK else "monthly"


class UnknownPeriod(ValueError):
    """What was asked for is no day that a week or month could hold."""


@dataclass(frozen=True, slots=True)
class Period:
    """A week or a month, from its first day to its last, both included."""

    kind: Kind
    first_day: date
    time_zone: str

    @property
    def next_day(self) -> date:
        """The day after the last one.

        >>> Period(Kind.MONTH, date(2026, 12, 1), "UTC").next_day.isoformat()
        '2027-01-01'
        """
        if self.kind is Kind.WEEK:
            return self.first_day + timedelta(days=7)
        return _first_of_month(self.first_day.replace(day=28) + timedelta(days=4))

    @property
    def last_day(self) -> date:
        return self.next_day - timedelta(days=1)

    @property
    def days(self) -> list[date]:
        return [self.first_day + timedelta(days=n) for n in range((self.next_day - self.first_day).days)]

    @property
    def before(self) -> Period:
        return _holding(self.kind, self.first_day - timedelta(days=1), self.time_zone)

    @property
    def after(self) -> Period:
        return Period(self.kind, self.next_day, self.time_zone)

    def as_kind(self, kind: Kind) -> Period:
        """The week or month that its last day lies in."""
        return _holding(kind, self.last_day, self.time_zone)

    @property
    def midnights(self) -> list[datetime]:
        """When each day begins, and when the last one ends; instants in UTC, one more than there are days.

        >>> starts = Period(Kind.WEEK, date(2026, 10, 19), "Europe/Berlin").midnights
        >>> [int((b - a).total_seconds() / 3600) for a, b in zip(starts, starts[1:])]
        [24, 24, 24, 24, 24, 24, 25]
        """
        return [instant_of(day, _MIDNIGHT, self.time_zone) for day in [*self.days, self.next_day]]

    @property
    def hours(self) -> list[datetime]:
        """The midnights as rollups by the hour know them: each moved back to the whole hour of UTC.

        >>> Period(Kind.WEEK, date(2026, 11, 16), "Asia/Kolkata").hours[0].isoformat()
        '2026-11-15T18:00:00+00:00'
        """
        return [at.replace(minute=0, second=0, microsecond=0) for at in self.midnights]

    @property
    def utc_days(self) -> list[datetime]:
        """The days of the same dates in UTC, which is what is left once rollups by the hour are gone."""
        return [datetime.combine(day, _MIDNIGHT, UTC) for day in [*self.days, self.next_day]]

    @property
    def mailed_at(self) -> datetime:
        """When its report goes out: at 07:00 of the day after it."""
        return instant_of(self.next_day, MAILED_AT, self.time_zone)

    def is_running(self, now: datetime) -> bool:
        midnights = self.midnights
        return midnights[0] <= now < midnights[-1]

    def is_ahead(self, now: datetime) -> bool:
        return now < self.midnights[0]

    @property
    def span(self) -> str:
        """Its days in words.

        >>> Period(Kind.WEEK, date(2026, 11, 16), "UTC").span, Period(Kind.WEEK, date(2026, 12, 28), "UTC").span
        ('16–22 November 2026', '28 December 2026 – 3 January 2027')
        >>> Period(Kind.WEEK, date(2026, 11, 30), "UTC").span, Period(Kind.MONTH, date(2026, 10, 1), "UTC").span
        ('30 November – 6 December 2026', 'October 2026')
        """
        first, last = self.first_day, self.last_day
        if self.kind is Kind.MONTH:
            return f"{first:%B} {first.year}"
        if first.year != last.year:
            return f"{first.day} {first:%B} {first.year} – {last.day} {last:%B} {last.year}"
        if first.month != last.month:
            return f"{first.day} {first:%B} – {last.day} {last:%B} {last.year}"
        return f"{first.day}–{last.day} {last:%B} {last.year}"

    @property
    def name(self) -> str:
        """Its title: "Week 47, 16–22 November 2026", "October 2026"."""
        if self.kind is Kind.MONTH:
            return self.span
        return f"Week {self.first_day.isocalendar().week}, {self.span}"

    def opening(self, now: datetime) -> str:
        """How a sentence about it begins.

        >>> week = Period(Kind.WEEK, date(2026, 11, 16), "UTC")
        >>> week.opening(datetime(2026, 11, 23, 7, tzinfo=UTC)), week.opening(datetime(2026, 11, 18, 7, tzinfo=UTC))
        ('Last week (16–22 November 2026)', 'This week so far (16–22 November 2026)')
        >>> week.opening(datetime(2026, 12, 18, 7, tzinfo=UTC))
        'In the week of 16–22 November 2026'
        """
        if self.is_running(now):
            return f"This {self.kind} so far ({self.span})"
        if self.after.is_running(now):
            return f"Last {self.kind} ({self.span})"
        return f"In {self.span}" if self.kind is Kind.MONTH else f"In the week of {self.span}"


def containing(kind: Kind, day: date, time_zone: str) -> Period:
    """The week or month that a day lies in. Raises UnknownPeriod for a day of a year that nobody means.

    >>> containing(Kind.WEEK, date(2026, 11, 22), "UTC").first_day.isoformat()
    '2026-11-16'
    """
    if day.year not in _YEARS:
        raise UnknownPeriod(f"a year from {_YEARS[0]} to {_YEARS[-1]} was expected, got {day.year}")
    return _holding(kind, day, time_zone)


def running(kind: Kind, now: datetime, time_zone: str) -> Period:
    """The week or month that an instant lies in."""
    return _holding(kind, local_day(now, time_zone), time_zone)


def last_finished(kind: Kind, now: datetime, time_zone: str) -> Period:
    """The one before that."""
    return running(kind, now, time_zone).before


def last_mailed(kind: Kind, now: datetime, time_zone: str) -> Period:
    """The latest whose report was to be mailed by now."""
    found = last_finished(kind, now, time_zone)
    return found if found.mailed_at <= now else found.before


def _holding(kind: Kind, day: date, time_zone: str) -> Period:
    first = day - timedelta(days=day.weekday()) if kind is Kind.WEEK else _first_of_month(day)
    return Period(kind, first, time_zone)


def _first_of_month(day: date) -> date:
    return day.replace(day=1)
