"""Overrides of on-call schedules: who stands in for whom, and until when."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.features import instant

from .fields import Fields
from .models import Schedule, ScheduleOverride
from .schedules import locked_schedule, members_by_address, record_change

# No override lasts longer, so none that is over for longer has a say in who is on call.
MAX_OVERRIDE: Final = timedelta(days=90)
# Of a schedule, in force or coming.
MAX_OVERRIDES: Final = 200
MAX_DAYS_AHEAD: Final = 366
FIELDS: Final = ("person", "starts_at", "ends_at")
READ_ONLY_FIELDS: Final = ("id", "author", "created_at")


def create_override(*, schedule_id: int, document: Any, actor: str, now: datetime) -> ScheduleOverride:
    """Adds the override that a document asks for: {"person": "ada@example.com" or null, "starts_at", "ends_at"}.

    Without a start it starts now. Raises Refusal: invalid_document, and as `add_override`.
    """
    fields = Fields(document, known=FIELDS, read_only=READ_ONLY_FIELDS, code="invalid_override")
    # Left out by mistake, it would put nobody on call.
    email = fields.raw("person")
    if "person" not in fields.wrong and not (email is None or isinstance(email, str)):
        fields.add("person", "person must be the e-mail address of a member, or null for nobody.")
    starts_at = fields.instant("starts_at", default=now)
    ends_at = fields.instant("ends_at")
    fields.refuse()
    return add_override(
        schedule_id=schedule_id, email=email, starts_at=starts_at, ends_at=ends_at, actor=actor, now=now
    )


def add_override(
    *,
    schedule_id: int,
    email: str | None,
    starts_at: datetime,
    ends_at: datetime,
    actor: str,
    now: datetime,
) -> ScheduleOverride:
    """Has somebody of the team, or nobody, on call from one instant to another, before whoever's turn it is.

    Of several at once the one made last holds. Raises Refusal: unknown_schedule, invalid_override.
    """
    with transaction.atomic():
        schedule = locked_schedule(schedule_id)
        wrong: dict[str, list[str]] = {}
        person = members_by_address(schedule.team).get(email.strip().lower()) if email is not None else None
        if email is not None and person is None:
            wrong["person"] = [f"{email!r:.300} is no member of the team."]
        if ends_at <= starts_at:
            wrong["ends_at"] = ["It must end after it starts."]
        elif ends_at <= now:
            wrong["ends_at"] = ["It is over already."]
        elif ends_at - starts_at > MAX_OVERRIDE:
            wrong["ends_at"] = [
                f"It lasts at most {MAX_OVERRIDE.days} days: what lasts longer is for the rotation."
            ]
        if starts_at > now + timedelta(days=MAX_DAYS_AHEAD):
            wrong["starts_at"] = [f"It starts at most {MAX_DAYS_AHEAD} days ahead."]
        if schedule.overrides.filter(ends_at__gt=now).count() >= MAX_OVERRIDES:
            wrong["person"] = [f"A schedule has at most {MAX_OVERRIDES} overrides that are not over."]
        if wrong:
            raise Refusal.of("invalid_override", wrong)
        override = ScheduleOverride.objects.create(
            schedule=schedule,
            person=person,
            starts_at=starts_at,
            ends_at=ends_at,
            author=actor[:300],
            created_at=now,
        )
        record_change(schedule, "schedule.override_added", actor, None, audited(override), now)
    return override


def remove_override(*, schedule_id: int, override_id: int, actor: str, now: datetime) -> ScheduleOverride:
    """Takes an override back; one that has begun ends now, so that who was on call can still be read.

    One that is over stays as it is. Raises Refusal: unknown_schedule, unknown_override.
    """
    with transaction.atomic():
        schedule = locked_schedule(schedule_id)
        override = schedule.overrides.select_related("person").filter(pk=override_id).first()
        if override is None:
            raise Refusal(
                "unknown_override",
                "The schedule has no such override, or somebody took it back. Nothing was changed.",
                status=404,
            )
        before = audited(override)
        if override.ends_at <= now:
            return override
        if override.starts_at < now:
            override.ends_at = now
            override.save(update_fields=["ends_at"])
            after: dict[str, Any] | None = audited(override)
        else:
            override.delete()
            after = None
        record_change(schedule, "schedule.override_removed", actor, before, after, now)
    return override


def current_overrides(schedules: Collection[Schedule], *, now: datetime) -> dict[int, list[ScheduleOverride]]:
    """Schedule's id → its overrides that are not over, as they begin. One query."""
    found: dict[int, list[ScheduleOverride]] = {schedule.pk: [] for schedule in schedules}
    overrides = ScheduleOverride.objects.filter(schedule__in=list(found), ends_at__gt=now)
    for one in overrides.select_related("person").order_by("starts_at", "pk"):
        found[one.schedule_id].append(one)
    return found


def override_document(override: ScheduleOverride) -> dict[str, Any]:
    """An override as programs see it; `person` is null where nobody is on call."""
    return {
        "id": override.pk,
        "person": override.person.email if override.person else None,
        "starts_at": instant(override.starts_at),
        "ends_at": instant(override.ends_at),
        "author": override.author,
        "created_at": instant(override.created_at),
    }


def audited(override: ScheduleOverride) -> dict[str, Any]:
    """An override as the audit log keeps it."""
    return {
        "person": override.person.email if override.person else None,
        "starts_at": audit.instant(override.starts_at),
        "ends_at": audit.instant(override.ends_at),
    }
