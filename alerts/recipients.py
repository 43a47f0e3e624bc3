"""Who is told of an incident: the team's channels, or whom an escalation policy names, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, transaction

from budgets.models import User

from .channel_settings import record_made
from .directory import Directory
from .escalation import Policy
from .fields import MAX_NAME_CHARACTERS
from .matchers import fits
from .models import Channel, Incident, Schedule, Severity
from .rotas import REASONS
from .silences import facts_of

# What programs are not told: they know openings and ends, and would take a repetition for another opening.
FOR_PROGRAMS = frozenset({Channel.Kind.WEBHOOK, Channel.Kind.ALERTMANAGER})
# What keeps an alert of its own open, by a key, until it is told of the end.
HOLDS_ALERTS = FOR_PROGRAMS | {Channel.Kind.PAGERDUTY, Channel.Kind.OPSGENIE}

SWITCHED_OFF: Final = "switched off"
PAGES_ONLY: Final = "takes only pages"
"""Why a channel of the team is left out where all is as somebody set it up."""
# Who the audit log says did what nobody did.
ITSELF: Final = "Latency Dashboard"


@dataclass(slots=True)
class Recipients:
    """Channels with the reason for each, and everything that was not reached, in words."""

    told: dict[int, tuple[Channel, str]] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def add(self, channel: Channel, because: str) -> None:
        """The first reason counts."""
        self.told.setdefault(channel.pk, (channel, because))

    def leave_out(self, name: str, because: str) -> None:
        self.left_out.append({"name": name, "because": because})

    def __bool__(self) -> bool:
        return bool(self.told)


def whole_team(incident: Incident, directory: Directory) -> Recipients:
    """Every channel of the team that takes the incident's severity; nobody's own."""
    found = Recipients()
    for channel in directory.channels(incident.feature.team_id).values():
        if channel.owner_id is not None:
            continue
        takes_it = incident.severity == Severity.PAGE or channel.min_severity == Severity.TICKET
        if not channel.is_enabled:
            found.leave_out(channel.name, SWITCHED_OFF)
        elif not takes_it:
            found.leave_out(channel.name, PAGES_ONLY)
        else:
            taken = "tickets and pages" if channel.min_severity == Severity.TICKET else "pages"
            found.add(channel, f"a channel of the team, takes {taken}")
    return found


def freeze(incident: Incident, directory: Directory) -> dict[str, Any] | None:
    """The first policy of the team that fits the incident, as the incident keeps it; None where none does.

    Names become ids, so that renaming somebody changes nothing for an incident that is under way.
    """
    facts = facts_of(incident)
    team_id = incident.feature.team_id
    policy = next((one for one in directory.policies(team_id) if fits(one.matchers, facts)), None)
    if policy is None:
        return None
    named = [target for step in policy.steps for target in step["notify"]]
    ids = _ids(team_id, named)
    return {
        "id": policy.pk,
        "name": policy.name,
        "steps": [
            {
                "notify": [
                    {**target, "id": ids.get((target["kind"], target["name"]), 0)}
                    for target in step["notify"]
                ],
                "wait_minutes": step["wait_minutes"],
            }
            for step in policy.steps
        ],
        "repetitions": policy.repetitions,
        "reminder_minutes": policy.reminder_minutes,
        "unacknowledge_minutes": policy.unacknowledge_minutes,
    }


def _ids(team_id: int, targets: Iterable[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """(kind, name) -> id of those that there are."""
    names: dict[str, set[str]] = {"channel": set(), "schedule": set(), "person": set()}
    for target in targets:
        names[target["kind"]].add(target["name"])
    found: dict[tuple[str, str], int] = {}
    channels = Channel.objects.kept().filter(team_id=team_id, name__in=names["channel"])
    schedules = Schedule.objects.filter(team_id=team_id, name__in=names["schedule"])
    people = User.objects.filter(memberships__team_id=team_id, email__in=names["person"])
    for kind, pairs in (
        ("channel", channels.values_list("name", "pk")),
        ("schedule", schedules.values_list("name", "pk")),
        ("person", people.values_list("email", "pk")),
    ):
        found.update({(kind, name): pk for name, pk in pairs})
    return found


def of_step(incident: Incident, policy: Policy, step: int, directory: Directory) -> Recipients:
    """Whom a step of the incident's policy reaches now."""
    found = Recipients()
    targets = policy.steps[step].notify
    channels = directory.channels(incident.feature.team_id)
    shifts = directory.shifts([one.id for one in targets if one.kind == "schedule"])
    people = {
        user.pk: user
        for user in User.objects.filter(
            pk__in=[one.id for one in targets if one.kind == "person"],
            is_active=True,
            memberships__team_id=incident.feature.team_id,
        )
    }
    place = f"step {step + 1} of {policy.name}"
    for target in targets:
        if target.kind == "channel":
            channel = channels.get(target.id)
            if channel is None:
                found.leave_out(target.name, f"{place}: the channel was deleted")
            elif not channel.is_enabled:
                found.leave_out(channel.name, f"{place}: switched off")
            elif not directory.is_in_use(channel):
                found.leave_out(channel.name, f"{place}: its owner is not in the team any more")
            else:
                found.add(channel, place)
            continue
        if target.kind == "schedule":
            shift = shifts.get(target.id)
            person = shift.person if shift else None
            why = f"{place}: on call in {target.name}"
            if person is None:
                gap = REASONS[shift.because] if shift else "the schedule was deleted"
                found.leave_out(target.name, f"{place}: nobody is on call, {gap}")
                continue
        else:
            person, why = people.get(target.id), place
            if person is None:
                found.leave_out(target.name, f"{place}: not in the team any more")
                continue
        own = personal_channels(incident, person, now=directory.now)
        if not own:
            found.leave_out(person.email, f"{why}: every channel of theirs is switched off")
        for channel in own:
            found.add(channel, why)
    return found


def personal_channels(incident: Incident, person: User, *, now: datetime) -> Collection[Channel]:
    """The enabled channels of a person in the incident's team. Who has none is mailed: the channel for it is made
    here, so that everything that goes out goes through a channel whose log can be read. The audit log says so."""
    team_id = incident.feature.team_id
    own = Channel.objects.kept().filter(team_id=team_id, owner=person)
    enabled = list(own.filter(is_enabled=True).order_by("id"))
    if enabled:
        return enabled
    name = f"Mail to {person.email.replace('/', '_')}"[:MAX_NAME_CHARACTERS]
    # The other where somebody else's channel has the name.
    for one in (name, f"{name[: MAX_NAME_CHARACTERS - 30]} ({person.pk})"):
        made = Channel(
            team_id=team_id,
            owner=person,
            name=one,
            kind=Channel.Kind.EMAIL,
            config={"to": [person.email]},
            created_at=now,
        )
        try:
            with transaction.atomic():
                made.save(force_insert=True)
                record_made(channel=made, actor=ITSELF, now=now)
        except IntegrityError:
            mine = own.filter(name=one)
            if mine.exists():
                # Made at the same moment by another incident, or switched off: they asked for silence everywhere.
                return list(mine.filter(is_enabled=True))
        else:
            return [made]
    return []
