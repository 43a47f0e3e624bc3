"""Who is on call when: turns that hand over by the clock of a time zone, restricted to hours, and overrides.

People are ids. At every instant somebody is on call or nobody is, for a named reason; nothing here depends on what is
stored, so that a page can show a schedule before it is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final

from .wall_clocks import instant_of, local_day

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = timedelta(days=1)
# As early and as late as anything is asked for.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Because(StrEnum):
    """Why somebody is on call, or nobody."""

    TURN = "turn"
    OVERRIDE = "override"
    BEFORE_START = "before_start"
    NO_PEOPLE = "no_people"
    EMPTY_TURN = "empty_turn"
    OUTSIDE_HOURS = "outside_hours"
    OVERRIDDEN_TO_NOBODY = "overridden_to_nobody"
    LEFT_TEAM = "left_team"
    ACCOUNT_CLOSED = "account_closed"
    UNREADABLE = "unreadable"


# Why nobody is on call, for people.
REASONS: Final = {
    Because.BEFORE_START: "the first hand-over is yet to come",
    Because.NO_PEOPLE: "the rotation is empty",
    Because.EMPTY_TURN: "the turn is a gap",
    Because.OUTSIDE_HOURS: "outside the hours",
    Because.OVERRIDDEN_TO_NOBODY: "an override to nobody",
    Because.LEFT_TEAM: "whose turn it is left the team",
    Because.ACCOUNT_CLOSED: "whose turn it is has a closed account",
    Because.UNREADABLE: "the schedule cannot be read",
}


@dataclass(frozen=True, slots=True)
class Hours:
    """On these weekdays (0 is Monday) from one time of day to another. To a time that is not after the first is to
    that of the day after; None is midnight at the end of the day."""

    weekdays: frozenset[int]
    opens_at: time
    closes_at: time | None


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody else, or nobody, for a while. Of several at once that with the highest number, made last, holds."""

    person: int | None
    starts_at: datetime
    ends_at: datetime
    number: int


@dataclass(frozen=True)
class Rota:
    """A schedule. `places` are the people in the order of their turns, None a gap. `absent`: who can be on call no
    more, and why; their turns and overrides are gaps. Of what is not readable the overrides hold alone."""

    time_zone: str
    starts_on: date
    hands_over_at: time
    turn_days: int
    places: tuple[int | None, ...]
    hours: tuple[Hours, ...] = ()
    overrides: tuple[Override, ...] = ()
    absent: Mapping[int, Because] = field(default_factory=dict)
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time during which the same holds: who is on call, or None, and because of what. `turn` counts from 0 at the
    first hand-over and is None where no turn is the reason."""

    starts_at: datetime
    ends_at: datetime
    person: int | None
    because: Because
    turn: int | None = None


def hand_over(rota: Rota, turn: int) -> datetime:
    """The instant at which this turn begins."""
    return instant_of(
        rota.starts_on + timedelta(days=turn * rota.turn_days), rota.hands_over_at, rota.time_zone
    )


def turn_at(rota: Rota, at: datetime) -> int:
    """The number of the turn that runs at this instant, from 0; below 0 before the first."""
    turn = (local_day(at, rota.time_zone) - rota.starts_on).days // rota.turn_days
    # The day of a hand-over belongs to two turns.
    return turn if hand_over(rota, turn) <= at else turn - 1


def stretches(rota: Rota, start: datetime, end: datetime) -> list[Stretch]:
    """Who is on call from one instant to another, without a hole: neighbours differ in person, reason or turn."""
    found: list[Stretch] = []
    for starts_at, ends_at in pairwise(_boundaries(rota, start, end)):
        person, because, turn = _holder(rota, starts_at)
        last = found[-1] if found else None
        if last is not None and (last.person, last.because, last.turn) == (person, because, turn):
            found[-1] = Stretch(last.starts_at, ends_at, person, because, turn)
        else:
            found.append(Stretch(starts_at, ends_at, person, because, turn))
    return found


def stretch_at(rota: Rota, at: datetime) -> Stretch:
    """Who is on call at this instant, and from when until when that is so.

    A stretch that has no beginning or no end, such as the time before the first hand-over, is cut off two turns away;
    the end of that time is the hand-over itself, however far ahead.
    """
    reach = timedelta(days=2 * rota.turn_days + 8)
    around = [one for one in rota.overrides if one.starts_at <= at < one.ends_at]
    start = min([at - reach, *(one.starts_at - _DAY for one in around)])
    end = max([at + reach, *(one.ends_at + _DAY for one in around)])
    found = stretches(rota, max(start, _EARLIEST), min(end, _LATEST))
    here = next(one for one in found if one.starts_at <= at < one.ends_at)
    if here.because != Because.BEFORE_START:
        return here
    coming = [one.starts_at for one in rota.overrides if one.starts_at > at]
    return replace(here, ends_at=min([hand_over(rota, 0), *coming]))


def is_within_hours(rota: Rota, at: datetime) -> bool:
    """Whether the schedule covers this instant at all; without hours it covers every one."""
    if not rota.hours:
        return True
    today = local_day(at, rota.time_zone)
    # Hours of the day before may reach past midnight.
    return any(
        opens_at <= at < closes_at
        for day in (today - _DAY, today)
        for opens_at, closes_at in _hours_of(rota, day)
    )


def _holder(rota: Rota, at: datetime) -> tuple[int | None, Because, int | None]:
    """Who is on call at an instant: an override before everything, also outside hours, then the turn."""
    overrides = [one for one in rota.overrides if one.starts_at <= at < one.ends_at]
    if overrides:
        person = max(overrides, key=lambda one: one.number).person
        if person is None:
            return None, Because.OVERRIDDEN_TO_NOBODY, None
        if person in rota.absent:
            return None, rota.absent[person], None
        return person, Because.OVERRIDE, None
    if not rota.is_readable:
        return None, Because.UNREADABLE, None
    turn = turn_at(rota, at)
    if turn < 0:
        return None, Because.BEFORE_START, None
    if not rota.places:
        return None, Because.NO_PEOPLE, None
    if not is_within_hours(rota, at):
        return None, Because.OUTSIDE_HOURS, None
    person = rota.places[turn % len(rota.places)]
    if person is None:
        return None, Because.EMPTY_TURN, turn
    if person in rota.absent:
        return None, rota.absent[person], turn
    return person, Because.TURN, turn


def _boundaries(rota: Rota, start: datetime, end: datetime) -> list[datetime]:
    """The instants at which it may change who is on call, with both ends."""
    found = {start, end}
    for override in rota.overrides:
        found |= {override.starts_at, override.ends_at}
    first, last = local_day(start, rota.time_zone) - _DAY, local_day(end, rota.time_zone) + _DAY
    turn = max(0, (first - rota.starts_on).days // rota.turn_days)
    while rota.starts_on + timedelta(days=turn * rota.turn_days) <= last:
        found.add(hand_over(rota, turn))
        turn += 1
    if rota.hours:
        for days in range((last - first).days + 1):
            for opens_at, closes_at in _hours_of(rota, first + timedelta(days=days)):
                found |= {opens_at, closes_at}
    return sorted(at for at in found if start <= at <= end)


def _hours_of(rota: Rota, day: date) -> list[tuple[datetime, datetime]]:
    """The hours that begin on a day of the zone, as instants."""
    found = []
    for hours in rota.hours:
        if day.weekday() not in hours.weekdays:
            continue
        is_overnight = hours.closes_at is None or hours.closes_at <= hours.opens_at
        closes_at = instant_of(
            day + _DAY if is_overnight else day, hours.closes_at or time(0), rota.time_zone
        )
        found.append((instant_of(day, hours.opens_at, rota.time_zone), closes_at))
    return found
