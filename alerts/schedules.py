"""On-call schedules: who is on call by them, and how they are saved."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import prefetch_related_objects

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Membership, Team, User
from budgets.zones import is_zone

from .fields import Fields, name_of, read_time
from .models import Schedule, ScheduleOverride, ScheduleTurn
from .policies import require_unnamed
from .rotas import WEEKDAYS, Because, Hours, Override, Rota, stretch_at
from .troubles import say_once
from .wall_clocks import clock

log = logging.getLogger(__name__)

MAX_TURN_DAYS: Final = 56
MAX_PLACES: Final = 100
MAX_HOURS: Final = 20
MAX_SCHEDULES: Final = 100
FIELDS: Final = ("time_zone", "starts_on", "hands_over_at", "turn_days", "people", "hours")
READ_ONLY_FIELDS: Final = ("name", "overrides")
# What the documents of many schedules are read with.
READ_WITH: Final = ("turns__person",)
# How far around an instant its shift is looked for: two turns of the longest kind.
_REACH: Final = timedelta(days=2 * MAX_TURN_DAYS + 8)


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
    troubles = {
        one.pk: say_once(
            log, one, trouble_with(one), f"Nobody but by an override is on call by schedule {one.pk}"
        )
        for one in schedules
    }
    return {
        schedule.pk: Rota(
            time_zone=zone_of(schedule),
            starts_on=schedule.starts_on,
            hands_over_at=schedule.hands_over_at,
            turn_days=schedule.turn_days,
            places=tuple(turns[schedule.pk]),
            hours=() if troubles[schedule.pk] else read_hours(schedule.hours),
            overrides=tuple(overrides[schedule.pk]),
            absent=_absent(people, {user for team, user in members if team == schedule.team_id}),
            is_readable=not troubles[schedule.pk],
        )
        for schedule in schedules
    }, people


def trouble_with(schedule: Schedule) -> str:
    """Why a schedule cannot be read, in a sentence; "" where it can. None is saved like that, but another list of time
    zones or a hand may have written it; others go on being told."""
    if not is_zone(schedule.time_zone):
        return f"{schedule.time_zone!r} is no time zone that is known here."
    try:
        read_hours(schedule.hours)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 'Its hours are no list of {"days", "from", "to"}.'
    return ""


def zone_of(schedule: Schedule) -> str:
    """Its time zone, or UTC where that is not known here."""
    return schedule.time_zone if is_zone(schedule.time_zone) else "UTC"


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


# Schedules are saved


@dataclass(frozen=True, slots=True)
class SavedSchedule:
    schedule: Schedule
    is_created: bool


def save_schedule(
    *, team: Team, name: str, document: Any, actor: str, now: datetime, is_new: bool | None = None
) -> SavedSchedule:
    """Makes the team's schedule of this name what the document says; its overrides stay.

    {"time_zone": "Europe/Berlin", "starts_on": "2026-11-23", "hands_over_at": "09:00", "turn_days": 7,
    "people": ["ada@example.com", null], "hours": [{"days": ["mon"], "from": "09:00", "to": "17:00"}]}. `people` take turns in
    this order; null is a gap, and one at least is a member. Without hours it is around the clock; `to` may be 24:00, and one that is not after `from` is
    that of the next day. `is_new` says that there must be none of this name (True) or one (False). Raises Refusal, and
    then nothing was saved.
    """
    fields = Fields(document, known=FIELDS, read_only=READ_ONLY_FIELDS, code="invalid_schedule")
    name = name_of(name, "schedule", fields.wrong)
    values = {
        "time_zone": fields.time_zone("time_zone"),
        "starts_on": fields.day("starts_on"),
        "hands_over_at": fields.time_of_day("hands_over_at"),
        "turn_days": fields.whole_number("turn_days", least=1, most=MAX_TURN_DAYS, default=7),
        "hours": _hours(fields),
    }
    with transaction.atomic():
        # One after the other within a team; who stands in a schedule is not removed meanwhile.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        existing = Schedule.objects.filter(team=team, name=name).first() if name else None
        before = schedule_document(existing) if existing else None
        people = _people(fields, team, before["people"] if before else [])
        if existing is not None and is_new:
            fields.add("name", f"There is a schedule {name!r} already.")
        if existing is None and Schedule.objects.filter(team=team).count() >= MAX_SCHEDULES:
            fields.add("name", f"A team has at most {MAX_SCHEDULES}.")
        fields.refuse()
        if existing is None and is_new is False:
            raise _unknown(name)
        schedule, is_created = Schedule.objects.update_or_create(
            team=team, name=name, defaults=values, create_defaults={**values, "created_at": now}
        )
        schedule.turns.all().delete()
        ScheduleTurn.objects.bulk_create(
            ScheduleTurn(schedule=schedule, position=position, person=person)
            for position, person in enumerate(people)
        )
        record_change(schedule, "schedule.saved", actor, before, schedule_document(schedule), now)
    return SavedSchedule(schedule, is_created)


def delete_schedule(*, team: Team, name: str, actor: str, now: datetime) -> None:
    """Deletes the team's schedule of this name with its overrides.

    Raises Refusal: unknown_schedule, or named_by_policy where an escalation policy names it.
    """
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        schedule = None if "\0" in name else Schedule.objects.filter(team=team, name=name).first()
        if schedule is None:
            raise _unknown(name)
        require_unnamed(team=team, kind="schedule", name=schedule.name)
        before = schedule_document(schedule)
        schedule.delete()
        record_change(schedule, "schedule.deleted", actor, before, None, now)


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    """What `save_schedule` would take to change nothing. Two queries, or none where its turns were read before."""
    prefetch_related_objects([schedule], *READ_WITH)
    return {
        "time_zone": schedule.time_zone,
        "starts_on": schedule.starts_on.isoformat(),
        "hands_over_at": clock(schedule.hands_over_at),
        "turn_days": schedule.turn_days,
        "people": [turn.person.email if turn.person else None for turn in schedule.turns.all()],
        "hours": schedule.hours,
    }


def members_by_address(team: Team) -> dict[str, User]:
    """Who can be on call, by e-mail address."""
    found = User.objects.filter(memberships__team=team, is_active=True)
    return {person.email.lower(): person for person in found}


def _people(fields: Fields, team: Team, kept: list[str | None]) -> list[User | None]:
    """Who takes turns, a member at least. Somebody who left the team may keep a place that they have, which is a gap;
    nobody gets a new one."""
    value = fields.raw("people")
    if "people" in fields.wrong:
        return []
    if not isinstance(value, list) or not all(one is None or isinstance(one, str) for one in value):
        fields.add("people", "people must be a list of e-mail addresses, in which null is a gap.")
        return []
    if not 1 <= len(value) <= MAX_PLACES:
        fields.add("people", f"people has 1 to {MAX_PLACES} places, got {len(value)}.")
        return []
    members = members_by_address(team)
    known = {
        one.email.lower(): one for one in User.objects.filter(email__in=[one for one in kept if one])
    } | members
    for number, one in enumerate(value):
        if one is not None and one.strip().lower() not in known:
            fields.add("people", f"people[{number}]: {one!r:.300} is no member of the team.")
    if "people" in fields.wrong:
        return []
    people = [None if one is None else known[one.strip().lower()] for one in value]
    # As it was it may stay, so that one who leaves keeps nobody from applying files or changing the hours.
    is_as_before = [person.email if person else None for person in people] == kept
    if not is_as_before and not any(person and person.email.lower() in members for person in people):
        fields.add("people", "people needs a member of the team: nobody would ever be on call.")
        return []
    return people


def _hours(fields: Fields) -> list[dict[str, Any]]:
    value = fields.raw("hours", [])
    if not isinstance(value, list) or len(value) > MAX_HOURS:
        fields.add("hours", f"hours must be a list of at most {MAX_HOURS}.")
        return []
    found = []
    for number, one in enumerate(value):
        where = f"hours[{number}]"
        if not isinstance(one, dict) or one.keys() != {"days", "from", "to"}:
            fields.add("hours", f'{where} is not {{"days", "from", "to"}}.')
            continue
        days, opens_at = one["days"], read_time(one["from"])
        closes_at = time(0) if one["to"] == "24:00" else read_time(one["to"])
        if not isinstance(days, list) or not days or any(day not in WEEKDAYS for day in days):
            fields.add("hours", f"{where}.days must be a list of {', '.join(WEEKDAYS)}.")
        elif opens_at is None:
            fields.add("hours", f"{where}.from must be a time of day such as 09:00.")
        elif closes_at is None:
            fields.add("hours", f"{where}.to must be a time of day such as 17:00, or 24:00.")
        elif opens_at == closes_at and one["to"] != "24:00":
            fields.add("hours", f"{where} ends when it begins; a whole day is 00:00 to 24:00.")
        else:
            found.append(
                {
                    "days": [day for day in WEEKDAYS if day in days],
                    "from": clock(opens_at),
                    "to": "24:00" if one["to"] == "24:00" else clock(closes_at),
                }
            )
    return found


def locked_schedule(schedule_id: int) -> Schedule:
    """The schedule until the transaction ends. Raises Refusal("unknown_schedule")."""
    found = Schedule.objects.select_for_update(of=("self",)).select_related("team")
    schedule = found.filter(pk=schedule_id).first()
    if schedule is None:
        raise _unknown("")
    return schedule


def _unknown(name: str) -> Refusal:
    which = f"schedule {name!r:.220}" if name else "such schedule"
    return Refusal("unknown_schedule", f"The team has no {which}. Nothing was changed.", status=404)


def record_change(
    schedule: Schedule,
    action: str,
    actor: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    now: datetime,
) -> None:
    """Writes a change of the schedule, or of an override of it, into the audit log."""
    audit.record(
        team=schedule.team,
        actor=actor,
        action=action,
        subject=schedule.name,
        before=before,
        after=after,
        now=now,
    )
