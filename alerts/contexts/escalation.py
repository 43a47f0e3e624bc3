"""What the pages of on-call schedules and escalation policies show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from zoneinfo import ZoneInfo

from alerts.matchers import described
from alerts.models import EscalationPolicy, Schedule, ScheduleOverride
from alerts.policies import known_recipients
from alerts.rotas import REASONS, Because, Stretch, stretches
from alerts.schedules import Shift, on_call, rotas_of, trouble_with, zone_of
from alerts.wall_clocks import clock, in_zone, instant_of, local_day
from budgets.models import Team, User

WEEKS: Final = 4
# Colours there are for people in a calendar.
COLOURS: Final = 6
_DAY: Final = timedelta(days=1)

# Schedules


@dataclass(frozen=True)
class ScheduleLine:
    schedule: Schedule
    shift: Shift
    why: str
    until: str
    named_by: list[str]


def schedule_lines(team: Team, now: datetime) -> list[ScheduleLine]:
    """The team's schedules by name, and who is on call; as many queries for one as for many."""
    schedules = list(Schedule.objects.filter(team=team).order_by("name"))
    shifts = on_call([one.pk for one in schedules], at=now)
    policies = list(EscalationPolicy.objects.filter(team=team).order_by("position", "name"))
    lines = []
    for one in schedules:
        recipient = {"kind": "schedule", "name": one.name}
        lines.append(
            ScheduleLine(
                schedule=one,
                shift=shifts[one.pk],
                why=REASONS.get(shifts[one.pk].because, ""),
                until=in_zone(shifts[one.pk].ends_at, zone_of(one)),
                named_by=[
                    policy.name
                    for policy in policies
                    if any(recipient in step["notify"] for step in policy.steps)
                ],
            )
        )
    return lines


@dataclass(frozen=True)
class CalendarEntry:
    """Who is on call during a part of a day; `tone` is a colour's number, or gap or idle where nobody is."""

    starts: str
    who: str
    title: str
    tone: str


@dataclass(frozen=True)
class CalendarDay:
    day: date
    is_today: bool
    is_past: bool
    entries: list[CalendarEntry]


@dataclass(frozen=True)
class Gap:
    starts: str
    ends: str
    why: str


@dataclass(frozen=True)
class ShiftLine:
    """Who is on call from when, and until when, or "" where that lies beyond what is looked at; times outside the hours
    interrupt it where it `is_within_hours`. `tone` as in the calendar."""

    who: str
    why: str
    starts: str
    ends: str
    tone: str
    is_now: bool
    is_within_hours: bool


@dataclass(frozen=True)
class OverrideLine:
    """An override, its bounds by the clock of the schedule's zone."""

    override: ScheduleOverride
    starts: str
    ends: str


@dataclass(frozen=True)
class SchedulePage:
    schedule: Schedule
    shift: Shift
    why: str
    until: str
    weeks: list[list[CalendarDay]]
    gaps: list[Gap]
    more_gaps: int
    shifts: list[ShiftLine]
    """The same weeks as a list, from now on."""
    next: ShiftLine | None
    """Who is on call after who is now."""
    rotation: list[tuple[str, str]]
    hours: list[str]
    overrides: list[OverrideLine]
    facts: list[tuple[str, str]]
    zone: str
    """By whose clock it is told."""
    trouble: str
    """Why it cannot be read."""


def schedule_page(schedule: Schedule, *, now: datetime) -> SchedulePage:
    """A schedule over the four weeks that begin with this one, and what is not covered of what comes."""
    zone, trouble = zone_of(schedule), trouble_with(schedule)
    today = local_day(now, zone)
    first = today - timedelta(days=today.weekday())
    days = [first + n * _DAY for n in range(7 * WEEKS)]
    midnights = [instant_of(day, datetime.min.time(), zone) for day in [*days, days[-1] + _DAY]]
    # A gap at the edge of the calendar is told to its end.
    horizon = midnights[-1] + timedelta(days=schedule.turn_days + 1)
    rotas, people = rotas_of([schedule], start=midnights[0], end=horizon)
    rota = rotas[schedule.pk]
    found = stretches(rota, midnights[0], midnights[-1])
    places = list(dict.fromkeys(one for one in rota.places if one is not None))
    tones = {person: f"tone-{number % COLOURS}" for number, person in enumerate(places)}
    calendar = [
        CalendarDay(day, day == today, day < today, list(_entries(found, start, end, zone, people, tones)))
        for day, start, end in zip(days, midnights, midnights[1:], strict=False)
    ]
    coming = stretches(rota, now, horizon)
    gaps = [
        Gap(in_zone(one.starts_at, zone), in_zone(one.ends_at, zone), REASONS[one.because])
        for one in coming
        if one.person is None and one.because != Because.OUTSIDE_HOURS and one.starts_at < midnights[-1]
    ]
    shifts = _shifts(coming, now, midnights[-1], zone, people, tones)
    shift = on_call([schedule.pk], at=now)[schedule.pk]
    return SchedulePage(
        schedule=schedule,
        shift=shift,
        why=REASONS.get(shift.because, ""),
        until=in_zone(shift.ends_at, zone),
        weeks=[calendar[n : n + 7] for n in range(0, len(calendar), 7)],
        gaps=gaps[:5],
        more_gaps=max(0, len(gaps) - 5),
        shifts=shifts,
        next=next((one for one in shifts if not one.is_now), None),
        rotation=[
            ("nobody: a gap", "gap")
            if place is None
            else (
                f"{people[place].email} ({REASONS[rota.absent[place]].removeprefix('whose turn it is ')})",
                "gap",
            )
            if place in rota.absent
            else (people[place].email, tones[place])
            for place in rota.places
        ],
        hours=[]
        if trouble
        else [f"{', '.join(one['days'])} {one['from']}–{one['to']}" for one in schedule.hours],
        overrides=[
            OverrideLine(one, in_zone(one.starts_at, zone), in_zone(one.ends_at, zone))
            for one in schedule.overrides.filter(ends_at__gt=now)
            .select_related("person")
            .order_by("starts_at", "pk")
        ],
        zone=zone,
        trouble=trouble,
        facts=[
            ("Time zone", schedule.time_zone),
            ("First hand-over", f"{schedule.starts_on:%d %b %Y}"),
            ("Hands over at", clock(schedule.hands_over_at)),
            ("A turn lasts", "1 day" if schedule.turn_days == 1 else f"{schedule.turn_days} days"),
        ],
    )


def _entries(
    found: Iterable[Stretch],
    start: datetime,
    end: datetime,
    time_zone: str,
    people: dict[int, User],
    tones: dict[int, str],
) -> Iterable[CalendarEntry]:
    for one in found:
        if one.starts_at >= end or one.ends_at <= start:
            continue
        begins = max(one.starts_at, start)
        starts = "" if begins == start else f"{begins.astimezone(ZoneInfo(time_zone)):%H:%M}"
        if one.person is not None:
            email = people[one.person].email
            suffix = " (override)" if one.because == Because.OVERRIDE else ""
            yield CalendarEntry(
                starts, f"{email.partition('@')[0]}{suffix}", email, tones.get(one.person, "tone-override")
            )
        elif one.because == Because.OUTSIDE_HOURS:
            yield CalendarEntry(starts, "–", REASONS[one.because], "idle")
        else:
            yield CalendarEntry(starts, "nobody", REASONS[one.because], "gap")


def _shifts(
    found: Sequence[Stretch],
    now: datetime,
    until: datetime,
    time_zone: str,
    people: dict[int, User],
    tones: dict[int, str],
) -> list[ShiftLine]:
    """Those that begin before an instant. Neighbours in which the same holds are one, also those with times outside the
    hours between them."""
    runs: list[list[Stretch]] = []
    for one in found:
        if one.because == Because.OUTSIDE_HOURS:
            continue
        if runs and (runs[-1][-1].person, runs[-1][-1].because) == (one.person, one.because):
            runs[-1].append(one)
        else:
            runs.append([one])
    lines = []
    for run in runs:
        first, last = run[0], run[-1]
        if first.starts_at >= until:
            break
        # What nobody is seen to take over from goes on.
        is_open = run is runs[-1] and last.ends_at >= until
        who = "nobody" if first.person is None else people[first.person].email
        lines.append(
            ShiftLine(
                who=who,
                why="an override" if first.because == Because.OVERRIDE else REASONS.get(first.because, ""),
                starts=in_zone(first.starts_at, time_zone),
                ends="" if is_open else in_zone(last.ends_at, time_zone),
                tone="gap" if first.person is None else tones.get(first.person, "tone-override"),
                is_now=first.starts_at <= now,
                is_within_hours=any(one.ends_at != after.starts_at for one, after in pairwise(run)),
            )
        )
    return lines


# Escalation policies


@dataclass(frozen=True)
class PolicyLine:
    policy: EscalationPolicy
    about: str
    steps: list[dict[str, Any]]
    missing: list[str]
    is_first: bool
    is_last: bool


def policy_lines(team: Team) -> list[PolicyLine]:
    """The team's policies in the order in which they are asked."""
    known = known_recipients(team)
    policies = list(EscalationPolicy.objects.filter(team=team).order_by("position", "name"))
    return [
        PolicyLine(
            policy=one,
            about=described(one.matchers) or "every incident",
            steps=one.steps,
            missing=[
                each["name"]
                for step in one.steps
                for each in step["notify"]
                if each["name"] not in known[each["kind"]]
            ],
            is_first=number == 0,
            is_last=number == len(policies) - 1,
        )
        for number, one in enumerate(policies)
    ]
