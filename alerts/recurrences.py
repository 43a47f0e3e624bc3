"""On which days something comes back: the part of RFC 5545's RRULE that speaks of days.

DAILY, WEEKLY, MONTHLY and YEARLY with INTERVAL, COUNT or UNTIL, BYDAY, BYMONTHDAY, BYMONTH, BYSETPOS and WKST. The time of
day is not the rule's: whoever asks has it. A range of days is looked at in time that grows with the range, also for a
rule that fits no day at all, such as 30 February: a library's iterator would search for it until the year 9999.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

MAX_INTERVAL: Final = 1000
MAX_COUNT: Final = 1000
MAX_TEXT_CHARACTERS: Final = 500

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
    weekdays: tuple[tuple[int, int], ...] = ()
    month_days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_starts_on: int = 0


def read_recurrence(text: str) -> Recurrence:
    """An RRULE as it stands in a calendar, with or without `RRULE:` before it. Raises InvalidRecurrence.

    >>> read_recurrence("FREQ=MONTHLY;BYDAY=-1SU").weekdays
    ((-1, 6),)
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
        weekdays=tuple(_weekday(one, frequency) for one in _listed(parts, "BYDAY")),
        month_days=_signed(parts, "BYMONTHDAY", 31),
        months=tuple(_number("BYMONTH", one, 1, 12) for one in _listed(parts, "BYMONTH")),
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
    number = 0
    # A rule that counts is gone through from its start, another one from shortly before what is asked for.
    skipped = 0 if recurrence.count is not None else max(0, _periods_before(recurrence, starts_on, first) - 1)
    while (days := _period(recurrence, starts_on, skipped)) is not None and days[0] <= last:
        for day in _chosen(recurrence, starts_on, days):
            if day < starts_on:
                continue
            number += 1
            if day > last or (recurrence.count is not None and number > recurrence.count):
                return
            if day >= first:
                yield day
        skipped += 1


def _periods_before(recurrence: Recurrence, starts_on: date, first: date) -> int:
    """How many of the rule's periods lie before this day, at least."""
    days = (first - starts_on).days
    length = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}[recurrence.frequency]
    return days // (length * recurrence.interval)


def _period(recurrence: Recurrence, starts_on: date, number: int) -> tuple[date, date] | None:
    """First and last day of the numbered period, the one of the start being 0; None beyond the calendar's end."""
    steps = number * recurrence.interval
    try:
        match recurrence.frequency:
            case "DAILY":
                day = starts_on + timedelta(days=steps)
                return day, day
            case "WEEKLY":
                back = (starts_on.weekday() - recurrence.week_starts_on) % 7
                day = starts_on + timedelta(days=7 * steps - back)
                return day, day + timedelta(days=6)
            case "MONTHLY":
                months = starts_on.year * 12 + starts_on.month - 1 + steps
                year, month = divmod(months, 12)
                return date(year, month + 1, 1), date(
                    year, month + 1, calendar.monthrange(year, month + 1)[1]
                )
            case _:
                year = starts_on.year + steps
                return date(year, 1, 1), date(year, 12, 31)
    except (OverflowError, ValueError):
        return None


def _chosen(recurrence: Recurrence, starts_on: date, period: tuple[date, date]) -> list[date]:
    first, last = period
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    found = [day for day in days if _fits(recurrence, starts_on, day)]
    if not recurrence.positions:
        return found
    places = {place - 1 if place > 0 else len(found) + place for place in recurrence.positions}
    return [day for place, day in enumerate(found) if place in places]


def _fits(recurrence: Recurrence, starts_on: date, day: date) -> bool:
    """Whether the BY parts take the day. What they leave open is as on the day of the start."""
    if recurrence.months and day.month not in recurrence.months:
        return False
    if recurrence.month_days:
        length = calendar.monthrange(day.year, day.month)[1]
        if day.day not in recurrence.month_days and day.day - length - 1 not in recurrence.month_days:
            return False
    if recurrence.weekdays:
        return any(_is_weekday(recurrence, day, which, weekday) for which, weekday in recurrence.weekdays)
    if recurrence.month_days:
        return True
    match recurrence.frequency:
        case "WEEKLY":
            return day.weekday() == starts_on.weekday()
        case "MONTHLY":
            return day.day == starts_on.day
        case "YEARLY":
            return day.day == starts_on.day and (bool(recurrence.months) or day.month == starts_on.month)
    return True


def _is_weekday(recurrence: Recurrence, day: date, which: int, weekday: int) -> bool:
    if day.weekday() != weekday:
        return False
    if which == 0:
        return True
    if recurrence.frequency == "YEARLY" and not recurrence.months:
        place, length = day.timetuple().tm_yday, 366 if calendar.isleap(day.year) else 365
    else:
        place, length = day.day, calendar.monthrange(day.year, day.month)[1]
    return which == ((place - 1) // 7 + 1 if which > 0 else -((length - place) // 7 + 1))


def _listed(parts: dict[str, str], name: str) -> list[str]:
    return [one.strip() for one in parts[name].split(",")] if name in parts else []


def _number(name: str, text: str, least: int, most: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= 6
    if not is_number or not least <= int(text) <= most:
        raise InvalidRecurrence(f"{name} must be {least} to {most}, got {text!r:.50}.")
    return int(text)


def _signed(parts: dict[str, str], name: str, most: int) -> tuple[int, ...]:
    return tuple(
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
