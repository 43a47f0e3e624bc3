"""On which days something comes back: the part of RFC 5545's RRULE that speaks of days.

DAILY, WEEKLY, MONTHLY and YEARLY with INTERVAL, COUNT or UNTIL, BYDAY, BYMONTHDAY, BYMONTH, BYSETPOS and WKST. The time of
day is not the rule's: whoever asks has it. A range of days is looked at in time that grows with the range, also for a
rule that fits no day at all, such as 30 February: a library's iterator would search for it until the year 9999. What a
rule with a COUNT has counted before a month is worked out once a process, half a millisecond for fifty years.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

MAX_INTERVAL: Final = 1000
MAX_COUNT: Final = 1000
MAX_TEXT_CHARACTERS: Final = 500
# Rules that a process remembers what was worked out of.
MAX_KEPT: Final = 8192

_DAY: Final = timedelta(days=1)
_EPOCH: Final = date(1970, 1, 1).toordinal()
# Days that are looked at in one go, and that calendars are kept by.
_STRIDE_DAYS: Final = 16_384
_BLOCK_DAYS: Final = 4096
_DAYS: Final = {name: number for number, name in enumerate(("MO", "TU", "WE", "TH", "FR", "SA", "SU"))}
_FREQUENCIES: Final = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_PARTS: Final = (
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYDAY",
    "BYMONTHDAY",
    "BYMONTH",
    "BYSETPOS",
    "WKST",
)


class InvalidRecurrence(Exception):
    """A rule that is not taken; its text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """`weekdays` are (which, day): which Monday (0) of the month or year, counted from 1 or backwards from -1; 0 is
    every one. `until` is the last day, or, with an instant, nothing begins after it."""

    frequency: str
    interval: int = 1
    count: int | None = None
    until: date | datetime | None = None
    weekdays: frozenset[tuple[int, int]] = frozenset()
    month_days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    positions: frozenset[int] = frozenset()
    week_starts_on: int = 0


@lru_cache(maxsize=MAX_KEPT)
def read_recurrence(text: str) -> Recurrence:
    """An RRULE as it stands in a calendar, with or without `RRULE:` before it. Raises InvalidRecurrence.

    >>> read_recurrence("FREQ=MONTHLY;BYDAY=-1SU").weekdays
    frozenset({(-1, 6)})
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRecurrence(f"A recurrence has at most {MAX_TEXT_CHARACTERS} characters.")
    parts: dict[str, str] = {}
    for part in text.strip().upper().removeprefix("RRULE:").split(";"):
        name, separator, value = part.strip().partition("=")
        if not separator or not value:
            raise InvalidRecurrence(f"Expected parts such as FREQ=WEEKLY;BYDAY=SU, got {part!r:.50}.")
        if name in ("BYHOUR", "BYMINUTE", "BYSECOND"):
            raise InvalidRecurrence(
                f"{name} is not taken: the time of day stands beside the rule, and there is one."
            )
        if name not in _PARTS:
            raise InvalidRecurrence(f"{name!r:.50} is not taken; known are {', '.join(_PARTS)}.")
        if name in parts:
            raise InvalidRecurrence(f"{name} stands twice.")
        parts[name] = value
    frequency = parts.get("FREQ", "")
    if frequency not in _FREQUENCIES:
        raise InvalidRecurrence(f"FREQ must be one of {', '.join(_FREQUENCIES)}, got {frequency!r:.50}.")
    if "COUNT" in parts and "UNTIL" in parts:
        raise InvalidRecurrence("COUNT and UNTIL exclude each other.")
    found = Recurrence(
        frequency=frequency,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, MAX_INTERVAL),
        count=_number("COUNT", parts["COUNT"], 1, MAX_COUNT) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        weekdays=frozenset(_weekday(one, frequency) for one in _listed(parts, "BYDAY")),
        month_days=_signed(parts, "BYMONTHDAY", 31),
        months=frozenset(_number("BYMONTH", one, 1, 12) for one in _listed(parts, "BYMONTH")),
        positions=_signed(parts, "BYSETPOS", 366),
        week_starts_on=_weekday(parts.get("WKST", "MO"), "")[1],
    )
    if found.month_days and frequency == "WEEKLY":
        raise InvalidRecurrence("BYMONTHDAY does not go with FREQ=WEEKLY.")
    if found.positions and not (found.weekdays or found.month_days or found.months):
        raise InvalidRecurrence("BYSETPOS needs another BY part to choose from.")
    return found


def days_of(recurrence: Recurrence | None, starts_on: date, *, first: date, last: date) -> Iterator[date]:
    """The days from first to last on which it comes, in order; without a recurrence, the day of its start alone.

    None comes before `starts_on`, which itself counts only where the rule fits it. An UNTIL that is an instant is the
    caller's to hold against what begins on a day.
    """
    if recurrence is None:
        if first <= starts_on <= last:
            yield starts_on
        return
    if isinstance(recurrence.until, date) and not isinstance(recurrence.until, datetime):
        last = min(last, recurrence.until)
    # Counted is from the beginning of the month, so that all who ask within it share what was counted before.
    since = first if recurrence.count is None else max(first.replace(day=1), starts_on)
    left = None if recurrence.count is None else recurrence.count - _come_before(recurrence, starts_on, since)
    coming = (int(day) for days in _uncounted(recurrence, starts_on, since, last) for day in days)
    for day in islice(coming, left):
        if day >= first.toordinal():
            yield date.fromordinal(day)


@lru_cache(maxsize=MAX_KEPT)
def _come_before(recurrence: Recurrence, starts_on: date, day: date) -> int:
    """How many come before this day, at most as many as it counts."""
    assert recurrence.count is not None
    found = 0
    if day > starts_on:
        for days in _uncounted(recurrence, starts_on, starts_on, day - _DAY):
            found += len(days)
            if found >= recurrence.count:
                return recurrence.count
    return found


def _uncounted(recurrence: Recurrence, starts_on: date, first: date, last: date) -> Iterator[Integers]:
    """As `days_of`, as ordinals and many at once; neither COUNT nor UNTIL is asked."""
    rule = _completed(recurrence, starts_on)
    start, end = max(first, starts_on).toordinal(), last.toordinal()
    while start <= end:
        stop = min(start + _STRIDE_DAYS - 1, end)
        # A place is counted in the whole period, what lies before the start too.
        days = (
            _placed(rule, starts_on, _bounds_of_period(rule, start)[0], _bounds_of_period(rule, stop)[1])
            if rule.positions
            else _due(rule, starts_on, _fitting(rule, start, stop))
        )
        yield days[(days >= start) & (days <= stop)]
        start = stop + 1


def _placed(rule: Recurrence, starts_on: date, first: int, last: int) -> Integers:
    """Of whole periods the days at the rule's places."""
    days = _due(rule, starts_on, _fitting(rule, first, last))
    if not len(days):
        return days
    numbers = _period_numbers(rule, starts_on, days)
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    sizes = np.diff(begins, append=len(days))
    places = np.arange(len(days)) - np.repeat(begins, sizes)
    takes = _takes(rule)
    return days[takes.positions[places] | takes.positions_from_end[np.repeat(sizes, sizes) - places - 1]]


def _due(rule: Recurrence, starts_on: date, days: Integers) -> Integers:
    """Of these days those of the periods in which it comes."""
    if rule.interval == 1:
        return days
    due: Integers = days[_period_numbers(rule, starts_on, days) % rule.interval == 0]
    return due


@lru_cache(maxsize=MAX_KEPT)
def _completed(recurrence: Recurrence, starts_on: date) -> Recurrence:
    """The rule with what its BY parts leave open said: it is as on the day of the start."""
    if recurrence.weekdays or recurrence.month_days or recurrence.frequency == "DAILY":
        return recurrence
    if recurrence.frequency == "WEEKLY":
        return replace(recurrence, weekdays=frozenset({(0, starts_on.weekday())}))
    rule = replace(recurrence, month_days=frozenset({starts_on.day}))
    if recurrence.frequency == "YEARLY" and not recurrence.months:
        return replace(rule, months=frozenset({starts_on.month}))
    return rule


@dataclass(frozen=True, slots=True)
class _Days:
    """What a calendar says of days that follow each other, an element each; weekdays from 0, the others from 1."""

    weekday: Integers
    month: Integers
    day_of_month: Integers
    days_of_month: Integers
    day_of_year: Integers
    days_of_year: Integers


@lru_cache(maxsize=64)
def _block(number: int) -> _Days:
    """The days of which the ordinal begins with this number of blocks: the same for every rule."""
    ordinals = np.arange(number * _BLOCK_DAYS, (number + 1) * _BLOCK_DAYS)
    days = (ordinals - _EPOCH).astype("M8[D]")
    months, years = days.astype("M8[M]"), days.astype("M8[Y]")

    def counted(stretches: NDArray[np.datetime64]) -> tuple[Integers, Integers]:
        first, last = stretches.astype("M8[D]"), (stretches + 1).astype("M8[D]")
        return (days - first).astype(np.int64) + 1, (last - first).astype(np.int64)

    return _Days((ordinals - 1) % 7, months.astype(np.int64) % 12 + 1, *counted(months), *counted(years))


@dataclass(frozen=True, slots=True)
class _Takes:
    """What the BY parts take, to be looked up; None where a part says nothing. Of places that are counted the first
    index is the weekday, the second how many of it come before, or after, in the month or year; positions count from 0."""

    months: Booleans | None
    month_days: Booleans | None
    month_days_from_end: Booleans | None
    weekdays: Booleans | None
    places: Booleans | None
    places_from_end: Booleans | None
    positions: Booleans
    positions_from_end: Booleans


@lru_cache(maxsize=MAX_KEPT)
def _takes(rule: Recurrence) -> _Takes:
    def listed(size: int, numbers: Iterable[int]) -> Booleans:
        found = np.zeros(size, dtype=np.bool_)
        found[list(numbers)] = True
        return found

    def placed(counted: Iterable[tuple[int, int]]) -> Booleans:
        found = np.zeros((7, 53), dtype=np.bool_)
        for which, weekday in counted:
            found[weekday, which - 1] = True
        return found

    is_counted = any(which for which, _ in rule.weekdays)
    return _Takes(
        months=listed(13, rule.months) if rule.months else None,
        month_days=listed(32, (n for n in rule.month_days if n > 0)) if rule.month_days else None,
        month_days_from_end=listed(32, (-n for n in rule.month_days if n < 0)) if rule.month_days else None,
        weekdays=listed(7, (day for which, day in rule.weekdays if not which)) if rule.weekdays else None,
        places=placed((n, day) for n, day in rule.weekdays if n > 0) if is_counted else None,
        places_from_end=placed((-n, day) for n, day in rule.weekdays if n < 0) if is_counted else None,
        positions=listed(366, (n - 1 for n in rule.positions if n > 0)),
        positions_from_end=listed(366, (-n - 1 for n in rule.positions if n < 0)),
    )


def _fitting(rule: Recurrence, first: int, last: int) -> Integers:
    """The days from first to last that the BY parts take, whatever their periods, as ordinals."""
    found = []
    for number in range(first // _BLOCK_DAYS, last // _BLOCK_DAYS + 1):
        start = number * _BLOCK_DAYS
        part = slice(max(first - start, 0), min(last - start + 1, _BLOCK_DAYS))
        taken = _taken(rule, _block(number), part)
        found.append(np.flatnonzero(taken) + (start + part.start))
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _taken(rule: Recurrence, days: _Days, part: slice) -> Booleans:
    takes = _takes(rule)
    taken = np.ones(part.stop - part.start, dtype=np.bool_)
    if takes.months is not None:
        taken &= takes.months[days.month[part]]
    if takes.month_days is not None and takes.month_days_from_end is not None:
        day, length = days.day_of_month[part], days.days_of_month[part]
        taken &= takes.month_days[day] | takes.month_days_from_end[length + 1 - day]
    if takes.weekdays is not None:
        weekday = days.weekday[part]
        fits = takes.weekdays[weekday]
        if takes.places is not None and takes.places_from_end is not None:
            day, length = days.day_of_month[part], days.days_of_month[part]
            if rule.frequency == "YEARLY" and not rule.months:
                day, length = days.day_of_year[part], days.days_of_year[part]
            fits = fits | takes.places[weekday, (day - 1) // 7]
            fits |= takes.places_from_end[weekday, (length - day) // 7]
        taken &= fits
    return taken


def _period_numbers(rule: Recurrence, starts_on: date, days: Integers) -> Integers:
    """The number of each day's period, that of the start being 0."""
    match rule.frequency:
        case "DAILY":
            return days - starts_on.toordinal()
        case "WEEKLY":
            back = (starts_on.weekday() - rule.week_starts_on) % 7
            return (days - (starts_on.toordinal() - back)) // 7
        case "MONTHLY":
            months: Integers = (days - _EPOCH).astype("M8[D]").astype("M8[M]").astype(np.int64)
            return months - ((starts_on.year - 1970) * 12 + starts_on.month - 1)
        case _:
            years: Integers = (days - _EPOCH).astype("M8[D]").astype("M8[Y]").astype(np.int64)
            return years - (starts_on.year - 1970)


def _bounds_of_period(rule: Recurrence, ordinal: int) -> tuple[int, int]:
    """First and last day of the period in which the day lies."""
    day = date.fromordinal(ordinal)
    match rule.frequency:
        case "DAILY":
            return ordinal, ordinal
        case "WEEKLY":
            first = ordinal - (day.weekday() - rule.week_starts_on) % 7
            return first, first + 6
        case "MONTHLY":
            length = calendar.monthrange(day.year, day.month)[1]
            return ordinal - day.day + 1, ordinal - day.day + length
        case _:
            return date(day.year, 1, 1).toordinal(), date(day.year, 12, 31).toordinal()


def _listed(parts: dict[str, str], name: str) -> list[str]:
    return [one.strip() for one in parts[name].split(",")] if name in parts else []


def _number(name: str, text: str, least: int, most: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= 6
    if not is_number or not least <= int(text) <= most:
        raise InvalidRecurrence(f"{name} must be {least} to {most}, got {text!r:.50}.")
    return int(text)


def _signed(parts: dict[str, str], name: str, most: int) -> frozenset[int]:
    return frozenset(
        _number(name, one.lstrip("+-"), 1, most) * (-1 if one.startswith("-") else 1)
        for one in _listed(parts, name)
    )


def _weekday(text: str, frequency: str) -> tuple[int, int]:
    which, day = text[:-2], text[-2:]
    if day not in _DAYS:
        raise InvalidRecurrence(f"A day is one of {', '.join(_DAYS)}, got {text!r:.50}.")
    if not which:
        return 0, _DAYS[day]
    if frequency not in ("MONTHLY", "YEARLY"):
        raise InvalidRecurrence(f"{text!r:.50}: only a MONTHLY or YEARLY rule counts its weekdays.")
    sign = -1 if which.startswith("-") else 1
    return sign * _number("BYDAY", which.lstrip("+-"), 1, 53 if frequency == "YEARLY" else 5), _DAYS[day]


def _until(text: str) -> date | datetime:
    for form in ("%Y%m%d", "%Y%m%dT%H%M%SZ"):
        try:
            found = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return found.date() if form == "%Y%m%d" else found
    raise InvalidRecurrence(f"UNTIL must be 20270131 or 20270131T020000Z, got {text!r:.50}.")
