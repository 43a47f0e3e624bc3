"""A team's escalation policies: saved, ordered, deleted. What they do is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Team, User

from .fields import Fields, listed, name_of
from .matchers import described
from .models import Channel, EscalationPolicy, Schedule

RECIPIENTS: Final = ("channel", "schedule", "person")
MAX_POLICIES: Final = 100
MAX_STEPS: Final = 20
MAX_RECIPIENTS: Final = 20
MAX_REPETITIONS: Final = 9
MAX_WAIT_MINUTES: Final = 24 * 60
# Of reminders, and of taking an acknowledgement back.
MIN_MINUTES: Final = 5
MAX_MINUTES: Final = 7 * 24 * 60
MAX_POSITION: Final = 10_000
FIELDS: Final = (
    "matchers",
    "steps",
    "repetitions",
    "reminder_minutes",
    "unacknowledge_minutes",
    "enabled",
    "position",
)
READ_ONLY_FIELDS: Final = ("name",)


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    policy: EscalationPolicy
    is_created: bool


def save_policy(
    *, team: Team, name: str, document: Any, actor: str, now: datetime, is_new: bool | None = None
) -> SavedPolicy:
    """Makes the team's policy of this name what the document says.

    {"steps": [{"notify": [{"kind": "channel" | "schedule" | "person", "name": …}], "wait_minutes": 5}, …], "matchers": [...],
    "repetitions": 0, "reminder_minutes": 60 or null, "unacknowledge_minutes": null, "enabled": true, "position": …}.
    A person is named by their e-mail address. `wait_minutes` is how long the next step waits, and after the last the next
    round. Without matchers it fits every incident; without a position a new one comes last and another keeps its own. Whom
    it names must be there. Incidents that are open keep the policy that they opened with. `is_new` says that there must be
    none of this name (True) or one (False). Raises Refusal, and then nothing was saved.
    """
    fields = Fields(document, known=FIELDS, read_only=READ_ONLY_FIELDS, code="invalid_escalation_policy")
    name = name_of(name, "policy", fields.wrong)
    values: dict[str, Any] = {
        "matchers": fields.matchers(may_be_empty=True),
        "steps": _steps(fields),
        "repetitions": fields.whole_number("repetitions", least=0, most=MAX_REPETITIONS, default=0),
        "reminder_minutes": fields.optional_number(
            "reminder_minutes", least=MIN_MINUTES, most=MAX_MINUTES, default=60
        ),
        "unacknowledge_minutes": fields.optional_number(
            "unacknowledge_minutes", least=MIN_MINUTES, most=MAX_MINUTES, default=None
        ),
        "is_enabled": fields.flag("enabled", True),
    }
    position = fields.optional_number("position", least=0, most=MAX_POSITION, default=None)
    with transaction.atomic():
        # One after the other within a team: neither is what it names deleted meanwhile.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        policies = EscalationPolicy.objects.filter(team=team)
        existing = policies.filter(name=name).first() if name else None
        _require_recipients(fields, team, values["steps"], existing)
        if existing is not None and is_new:
            fields.add("name", f"There is an escalation policy {name!r} already.")
        if existing is None and policies.count() >= MAX_POLICIES:
            fields.add("name", f"A team has at most {MAX_POLICIES}.")
        fields.refuse()
        if existing is None and is_new is False:
            raise _unknown(name)
        if position is None:
            last = policies.order_by("-position").first()
            position = existing.position if existing else last.position + 1 if last else 0
        values["position"] = position
        before = audited(existing) if existing else None
        policy, is_created = EscalationPolicy.objects.update_or_create(
            team=team, name=name, defaults=values, create_defaults={**values, "created_at": now}
        )
        _record(policy, "escalation_policy.saved", actor, before, audited(policy), now)
    return SavedPolicy(policy, is_created)


def delete_policy(*, team: Team, name: str, actor: str, now: datetime) -> None:
    """Deletes the team's policy of this name; incidents that opened with it keep it.

    Raises Refusal("unknown_escalation_policy").
    """
    with transaction.atomic():
        found = EscalationPolicy.objects.select_for_update().filter(team=team, name=name)
        policy = None if "\0" in name else found.first()
        if policy is None:
            raise _unknown(name)
        before = audited(policy)
        policy.delete()
        _record(policy, "escalation_policy.deleted", actor, before, None, now)


def move_policy(*, team: Team, name: str, is_up: bool, actor: str, now: datetime) -> EscalationPolicy:
    """Has the policy change places with its neighbour before or after it; the first and the last stay.

    Positions are numbered anew from 0. Raises Refusal("unknown_escalation_policy").
    """
    with transaction.atomic():
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        policies = list(EscalationPolicy.objects.filter(team=team).order_by("position", "name"))
        at = next((number for number, one in enumerate(policies) if one.name == name), None)
        if at is None:
            raise _unknown(name)
        before = [one.name for one in policies]
        to = max(0, at - 1) if is_up else min(len(policies) - 1, at + 1)
        policies[at], policies[to] = policies[to], policies[at]
        for position, one in enumerate(policies):
            one.position = position
        EscalationPolicy.objects.bulk_update(policies, ["position"])
        after = [one.name for one in policies]
        moved = policies[to]
        audit.record(
            team=team,
            actor=actor,
            action="escalation_policy.moved",
            subject=name,
            before={"order": before},
            after={"order": after},
            now=now,
        )
    return moved


def policies_naming(*, team: Team, kind: str, name: str) -> list[str]:
    """The names of the team's policies that notify this channel, schedule or person."""
    wanted = {"kind": kind, "name": name}
    found = EscalationPolicy.objects.filter(team=team).order_by("position", "name")
    return [one.name for one in found if any(wanted in step["notify"] for step in one.steps)]


def require_unnamed(*, team: Team, kind: str, name: str) -> None:
    """Raises Refusal("named_by_policy", 409) where one of the team's policies names the channel or schedule.

    Deleted silently, it would leave a step that reaches nobody, found out at night. Called under the lock of the team.
    """
    named_by = policies_naming(team=team, kind=kind, name=name)
    if named_by:
        policies = listed([f"{one!r}" for one in named_by])
        verb = "names" if len(named_by) == 1 else "name"
        raise Refusal(
            "named_by_policy",
            f"The escalation {'policy' if len(named_by) == 1 else 'policies'} {policies} {verb} the {kind} {name!r}. "
            f"Take it out there first. Nothing was changed.",
            status=409,
        )


def policy_document(policy: EscalationPolicy) -> dict[str, Any]:
    """What `save_policy` would take to change nothing."""
    return {
        "matchers": policy.matchers,
        "steps": policy.steps,
        "repetitions": policy.repetitions,
        "reminder_minutes": policy.reminder_minutes,
        "unacknowledge_minutes": policy.unacknowledge_minutes,
        "enabled": policy.is_enabled,
        "position": policy.position,
    }


def audited(policy: EscalationPolicy) -> dict[str, Any]:
    """A policy as the audit log keeps it."""
    return {**policy_document(policy), "matchers": described(policy.matchers)}


def missing_recipients(policy: EscalationPolicy) -> list[dict[str, str]]:
    """Whom the policy names and who is not there any more, e.g. a person who left the team. Three queries at most."""
    known = known_recipients(policy.team)
    return [one for step in policy.steps for one in step["notify"] if one["name"] not in known[one["kind"]]]


def known_recipients(team: Team) -> dict[str, list[str]]:
    """Whom a policy of the team can name, by kind."""
    return {
        "channel": list(
            Channel.objects.kept()
            .filter(team=team, owner=None)
            .order_by("name")
            .values_list("name", flat=True)
        ),
        "schedule": list(Schedule.objects.filter(team=team).order_by("name").values_list("name", flat=True)),
        "person": list(
            User.objects.filter(memberships__team=team, is_active=True)
            .order_by("email")
            .values_list("email", flat=True)
        ),
    }


def _steps(fields: Fields) -> list[dict[str, Any]]:
    value = fields.raw("steps")
    if "steps" in fields.wrong:
        return []
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_STEPS:
        fields.add("steps", f"steps must be a list of 1 to {MAX_STEPS}.")
        return []
    return [step for number, one in enumerate(value) for step in _step(fields, one, f"steps[{number}]")]


def _step(fields: Fields, step: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(step, dict) or not {"notify"} <= step.keys() <= {"notify", "wait_minutes"}:
        fields.add("steps", f'{where} is not {{"notify", "wait_minutes"}}.')
        return []
    notify, wait_minutes = step["notify"], step.get("wait_minutes", 5)
    is_whole = isinstance(wait_minutes, int) and not isinstance(wait_minutes, bool)
    if not is_whole or not 1 <= wait_minutes <= MAX_WAIT_MINUTES:
        fields.add(
            "steps", f"{where}.wait_minutes must be 1 to {MAX_WAIT_MINUTES}, got {wait_minutes!r:.100}."
        )
        return []
    if not isinstance(notify, list) or not 1 <= len(notify) <= MAX_RECIPIENTS:
        fields.add("steps", f"{where}.notify must be a list of 1 to {MAX_RECIPIENTS}.")
        return []
    found: list[dict[str, str]] = []
    for number, one in enumerate(notify):
        if (
            not isinstance(one, dict)
            or one.keys() != {"kind", "name"}
            or one["kind"] not in RECIPIENTS
            or not isinstance(one["name"], str)
        ):
            kinds = ", ".join(RECIPIENTS)
            fields.add("steps", f'{where}.notify[{number}] is not {{"kind", "name"}} with a kind of {kinds}.')
            continue
        name = one["name"].strip()
        recipient = {"kind": one["kind"], "name": name.lower() if one["kind"] == "person" else name}
        if recipient not in found:
            found.append(recipient)
    return [{"notify": found, "wait_minutes": wait_minutes}]


def _require_recipients(
    fields: Fields, team: Team, steps: list[Mapping[str, Any]], existing: EscalationPolicy | None
) -> None:
    """Whom a policy names must be there. Who was named before and is gone may stay: the page says so."""
    known = known_recipients(team)
    kept = [one for step in existing.steps for one in step["notify"]] if existing else []
    for number, step in enumerate(steps):
        for one in step["notify"]:
            if one["name"] not in known[one["kind"]] and one not in kept:
                what = "a member" if one["kind"] == "person" else f"a {one['kind']}"
                fields.add("steps", f"steps[{number}]: {one['name']!r:.300} is not {what} of the team.")


def _unknown(name: str) -> Refusal:
    return Refusal(
        "unknown_escalation_policy",
        f"The team has no escalation policy {name!r:.220}. Nothing was changed.",
        status=404,
    )


def _record(
    policy: EscalationPolicy,
    action: str,
    actor: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    now: datetime,
) -> None:
    audit.record(
        team=policy.team, actor=actor, action=action, subject=policy.name, before=before, after=after, now=now
    )
