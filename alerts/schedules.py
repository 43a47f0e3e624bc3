"""On-call schedules as they are stored: who is on call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from budgets.models import Membership, User

from .models import Schedule, ScheduleOverride, ScheduleTurn
from .rotas import WEEKDAYS, Because, Hours, Override, Rota, stretch_at

# No override lasts longer, so none that is over for longer has a say in who is on call.
MAX_OVERRIDE: Final = timedelta(days=90)
# How far around an instant its shift is looked for: two turns of the longest kind.
_REACH: Final = timedelta(days=2 * 56 + 8)


@dataclass(frozen=True, slots=True)
class Shift:
    """Who is on call, or None, from when until when that is so, and why: a `rotas.Because`."""

    person: User | None
    starts_at: datetime
    ends_at: datetime
    because: Because


def on_call(schedule_ids: Collection[int], *, at: datetime) -> dict[int, Shift]:
    """Schedule's id → who is on call by it at the instant; a schedule that is not there is left out.

    Four queries however many schedules there are.
    """
    schedules = list(Schedule.objects.filter(pk__in=schedule_ids))
    rotas, people = rotas_of(schedules, start=at - _REACH, end=at + _REACH)
    found = {}
    for schedule in schedules:
        stretch = stretch_at(rotas[schedule.pk], at)
        person = people[stretch.person] if stretch.person is not None else None
        found[schedule.pk] = Shift(person, stretch.starts_at, stretch.ends_at, stretch.because)
    return found


def rotas_of(
    schedules: Collection[Schedule], *, start: datetime, end: datetime
) -> tuple[dict[int, Rota], dict[int, User]]:
    """Schedule's id → its rota with the overrides between these instants; and everybody who stands in one, by id."""
    turns: dict[int, list[int | None]] = defaultdict(list)
    overrides: dict[int, list[Override]] = defaultdict(list)
    people: dict[int, User] = {}
    ids = [schedule.pk for schedule in schedules]
    for turn in ScheduleTurn.objects.filter(schedule__in=ids).select_related("person").order_by("position"):
        turns[turn.schedule_id].append(turn.person_id)
        if turn.person is not None:
            people[turn.person.pk] = turn.person
    for one in ScheduleOverride.objects.filter(
        schedule__in=ids, starts_at__lt=end, ends_at__gt=start
    ).select_related("person"):
        overrides[one.schedule_id].append(Override(one.person_id, one.starts_at, one.ends_at, one.pk))
        if one.person is not None:
            people[one.person.pk] = one.person
    members = set(
        Membership.objects.filter(
            team__in={schedule.team_id for schedule in schedules}, user__in=people
        ).values_list("team_id", "user_id")
    )
    return {
        schedule.pk: Rota(
            time_zone=schedule.time_zone,
            starts_on=schedule.starts_on,
            hands_over_at=schedule.hands_over_at,
            turn_days=schedule.turn_days,
            places=tuple(turns[schedule.pk]),
            hours=read_hours(schedule.hours),
            overrides=tuple(overrides[schedule.pk]),
            absent=_absent(people, {user for team, user in members if team == schedule.team_id}),
        )
        for schedule in schedules
    }, people


def _absent(people: Mapping[int, User], members: Collection[int]) -> dict[int, Because]:
    """Of these people, who cannot be on call, and why."""
    absent = {pk: Because.LEFT_TEAM for pk in people if pk not in members}
    closed = {pk: Because.ACCOUNT_CLOSED for pk, person in people.items() if not person.is_active}
    return absent | closed


def read_hours(stored: Collection[Mapping[str, Any]]) -> tuple[Hours, ...]:
    """Hours as they are stored: [{"days": ["mon", …], "from": "09:00", "to": "17:00"}, …]."""
    return tuple(
        Hours(
            weekdays=frozenset(WEEKDAYS.index(day) for day in one["days"]),
            opens_at=time.fromisoformat(one["from"]),
            closes_at=None if one["to"] == "24:00" else time.fromisoformat(one["to"]),
        )
        for one in stored
    )
