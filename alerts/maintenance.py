"""Maintenance windows: when they are open, and how they are saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Team
from budgets.zones import is_zone

from . import matchers
from .fields import Fields, name_of
from .held import look_again
from .matchers import described
from .models import MaintenanceWindow
from .recurrences import InvalidRecurrence, Recurrence, days_of, read_recurrence
from .troubles import say_once
from .wall_clocks import clock, in_zone, instant_of, local_day

log = logging.getLogger(__name__)

# How far ahead the next occurrences are looked for; a leap day comes back after eight years at most.
FORESIGHT: Final = timedelta(days=9 * 366)
MAX_MINUTES: Final = 7 * 24 * 60
MAX_REASON_CHARACTERS: Final = 500
# Of a team: each is looked at whenever a message is to go out.
MAX_WINDOWS: Final = 100
FIELDS: Final = (
    "matchers",
    "reason",
    "time_zone",
    "starts_on",
    "starts_at",
    "duration_minutes",
    "recurrence",
    "enabled",
)
READ_ONLY_FIELDS: Final = ("name", "next_occurrences")
_TIMES: Final = ("time_zone", "starts_on", "starts_at", "duration_minutes", "recurrence")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that a window is open, in UTC: from its start, for its duration, whatever clocks do meanwhile."""

    starts_at: datetime
    ends_at: datetime


def recurrence_of(window: MaintenanceWindow) -> Recurrence | None:
    """The window's rule; None where it comes once."""
    return read_recurrence(window.recurrence) if window.recurrence else None


def occurrences(window: MaintenanceWindow, *, start: datetime, end: datetime) -> Iterator[Occurrence]:
    """When the window is open at any time between these instants, in order. Whether it is enabled is not asked."""
    recurrence = recurrence_of(window)
    duration = timedelta(minutes=window.duration_minutes)
    until = recurrence.until if recurrence is not None else None
    # A day more on each side: the day of a zone is not that of UTC, and a skipped time falls later.
    first = local_day(start - duration, window.time_zone) - _DAY
    for day in days_of(
        recurrence, window.starts_on, first=first, last=local_day(end, window.time_zone) + _DAY
    ):
        starts_at = instant_of(day, window.starts_at, window.time_zone)
        if isinstance(until, datetime) and starts_at > until:
            return
        if starts_at < end and starts_at + duration > start:
            yield Occurrence(starts_at, starts_at + duration)


def trouble_with(window: MaintenanceWindow) -> str:
    """Why a window cannot be read, in a sentence; "" where it can.

    None is saved like that, but an older release, another list of time zones or a hand may have written it. It counts as
    closed: what is told too often is better than what is never told.
    """
    if not is_zone(window.time_zone):
        return f"{window.time_zone!r} is no time zone that is known here."
    try:
        recurrence_of(window)
    except InvalidRecurrence as error:
        return str(error)
    return " ".join(matchers.problems(window.matchers, may_be_empty=True))


def open_at(window: MaintenanceWindow, at: datetime) -> Occurrence | None:
    """The occurrence within which the instant lies; of several the one that ends last. None of what cannot be read."""
    effect = f"Maintenance window {window.pk} ({window.name}) counts as closed"
    if say_once(log, window, trouble_with(window), effect):
        return None
    found = occurrences(window, start=at, end=at + timedelta(microseconds=1))
    return max(found, key=lambda one: one.ends_at, default=None)


def next_occurrences(window: MaintenanceWindow, *, now: datetime, count: int = 3) -> list[Occurrence]:
    """The one that is open now, if any, and the next ones: so many, or fewer where no more come or it cannot be read."""
    if trouble_with(window):
        return []
    return list(islice(occurrences(window, start=now, end=now + FORESIGHT), count))


def comes_again(window: MaintenanceWindow, now: datetime) -> bool:
    """Whether it is open now or will ever be, however far ahead it begins."""
    begins = instant_of(window.starts_on, window.starts_at, window.time_zone)
    start = max(now, begins)
    return next(occurrences(window, start=start, end=start + FORESIGHT), None) is not None


def read_window(document: Any) -> MaintenanceWindow:
    """A document as the window that it asks for, without team, name and author; it is not saved.

    {"time_zone": "Europe/Berlin", "starts_on": "2026-11-22", "starts_at": "02:00", "duration_minutes": 120,
    "recurrence": "FREQ=WEEKLY;BYDAY=SU", "matchers": [...], "reason": "", "enabled": true}. Without a recurrence it comes
    once, without matchers it is about every incident of the team. Raises Refusal: invalid_document, invalid_maintenance_window.
    """
    fields = Fields(document, known=FIELDS, read_only=READ_ONLY_FIELDS, code="invalid_maintenance_window")
    window = MaintenanceWindow(
        matchers=fields.matchers(may_be_empty=True),
        reason=fields.text("reason", most=MAX_REASON_CHARACTERS, default=""),
        time_zone=fields.time_zone("time_zone"),
        starts_on=fields.day("starts_on"),
        starts_at=fields.time_of_day("starts_at"),
        duration_minutes=fields.whole_number("duration_minutes", least=1, most=MAX_MINUTES),
        recurrence=fields.text("recurrence", most=500, default="").upper().removeprefix("RRULE:"),
        is_enabled=fields.flag("enabled", True),
    )
    if not fields.wrong:
        try:
            if not comes_again(window, instant_of(window.starts_on, window.starts_at, window.time_zone)):
                fields.add("recurrence", "By this rule it never comes.")
        except InvalidRecurrence as error:
            fields.add("recurrence", str(error))
    fields.refuse()
    return window


def require_to_come(read: MaintenanceWindow, existing: MaintenanceWindow | None, *, now: datetime) -> None:
    """Refuses a window that is over: it would hold back nothing, and whoever saves it means another day.

    One that was saved in time and has passed since may stay as it is, and its reason may change. Raises Refusal.
    """
    if comes_again(read, now):
        return
    if existing is not None and all(getattr(existing, one) == getattr(read, one) for one in _TIMES):
        return
    if read.recurrence:
        raise Refusal.of(
            "invalid_maintenance_window", {"recurrence": ["It is over: by this rule it comes no more."]}
        )
    ends_at = instant_of(read.starts_on, read.starts_at, read.time_zone) + timedelta(
        minutes=read.duration_minutes
    )
    ended = f"{ends_at.astimezone(ZoneInfo(read.time_zone)):%Y-%m-%d %H:%M} in {read.time_zone}"
    raise Refusal.of(
        "invalid_maintenance_window", {"starts_on": [f"It is over: it would have ended at {ended}."]}
    )


def require_to_close(read: MaintenanceWindow, existing: MaintenanceWindow | None, *, now: datetime) -> None:
    """Refuses a window that, coming again before it closes, holds back for longer than one may be open: what it is
    about would not be watched.

    One that is there already may stay as it is. Raises Refusal.
    """
    if existing is not None and all(getattr(existing, one) == getattr(read, one) for one in _TIMES):
        return
    unbroken_from = stays_open_from(read, now=now)
    if unbroken_from is None:
        return
    raise Refusal.of(
        "invalid_maintenance_window",
        {
            "duration_minutes": [
                f"From {in_zone(unbroken_from, read.time_zone)} on it comes again before it has closed, for longer than "
                f"{MAX_MINUTES // 1440} days: what is held back all the time is not watched. Let it be shorter, or come "
                "less often."
            ]
        },
    )


def stays_open_from(window: MaintenanceWindow, *, now: datetime) -> datetime | None:
    """When occurrences begin that touch or overlap for longer than a single one may last; None where none do."""
    begins = max(now, instant_of(window.starts_on, window.starts_at, window.time_zone))
    opened_at = closes_at = None
    for one in occurrences(window, start=begins, end=begins + FORESIGHT):
        if opened_at is None or closes_at is None or one.starts_at > closes_at:
            opened_at, closes_at = one.starts_at, one.ends_at
        closes_at = max(closes_at, one.ends_at)
        if closes_at - opened_at > timedelta(minutes=MAX_MINUTES):
            return opened_at
    return None


@dataclass(frozen=True, slots=True)
class SavedWindow:
    window: MaintenanceWindow
    is_created: bool


def save_window(
    *, team: Team, name: str, document: Any, actor: str, now: datetime, is_new: bool | None = None
) -> SavedWindow:
    """Makes the team's window of this name what the document says; `read_window` tells what it holds.

    `is_new` says that there must be none of this name (True) or one (False). What is over already, or never closes, is
    refused, as `require_to_come` and `require_to_close` say. What windows hold back is looked at again at once. Raises Refusal, and then nothing was saved.
    """
    read = read_window(document)
    wrong: dict[str, list[str]] = {}
    name = name_of(name, "maintenance window", wrong)
    if wrong:
        raise Refusal.of("invalid_maintenance_window", wrong)
    values = {
        field.attname: getattr(read, field.attname)
        for field in MaintenanceWindow._meta.concrete_fields
        if field.name not in ("id", "team", "name", "author", "created_at")
    }
    with transaction.atomic():
        # One after the other within a team, so that the limit holds.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        existing = MaintenanceWindow.objects.filter(team=team, name=name).first()
        if existing is None and is_new is False:
            raise _unknown(name)
        if existing is not None and is_new:
            raise Refusal.of(
                "invalid_maintenance_window", {"name": [f"There is a maintenance window {name!r} already."]}
            )
        if existing is None and MaintenanceWindow.objects.filter(team=team).count() >= MAX_WINDOWS:
            raise Refusal.of("invalid_maintenance_window", {"name": [f"A team has at most {MAX_WINDOWS}."]})
        require_to_come(read, existing, now=now)
        require_to_close(read, existing, now=now)
        before = audited(existing) if existing else None
        window, is_created = MaintenanceWindow.objects.update_or_create(
            team=team,
            name=name,
            defaults=values,
            create_defaults={**values, "author": actor[:300], "created_at": now},
        )
        _record(window, "maintenance_window.saved", actor, before, audited(window), now)
        if not is_created and before != audited(window):
            look_again(team.pk, now=now)
    return SavedWindow(window, is_created)


def delete_window(*, team: Team, name: str, actor: str, now: datetime) -> None:
    """Deletes the team's window of this name; what it holds back is looked at again at once.

    Raises Refusal("unknown_maintenance_window").
    """
    with transaction.atomic():
        found = MaintenanceWindow.objects.select_for_update().filter(team=team, name=name)
        window = None if "\0" in name else found.first()
        if window is None:
            raise _unknown(name)
        before = audited(window)
        window.delete()
        _record(window, "maintenance_window.deleted", actor, before, None, now)
        look_again(team.pk, now=now)


def window_document(window: MaintenanceWindow) -> dict[str, Any]:
    """What `save_window` would take to change nothing."""
    return {
        "matchers": window.matchers,
        "reason": window.reason,
        "time_zone": window.time_zone,
        "starts_on": window.starts_on.isoformat(),
        "starts_at": clock(window.starts_at),
        "duration_minutes": window.duration_minutes,
        "recurrence": window.recurrence,
        "enabled": window.is_enabled,
    }


def audited(window: MaintenanceWindow) -> dict[str, Any]:
    """A window as the audit log keeps it."""
    return {**window_document(window), "matchers": described(window.matchers)}


def _record(
    window: MaintenanceWindow,
    action: str,
    actor: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    now: datetime,
) -> None:
    audit.record(
        team=window.team, actor=actor, action=action, subject=window.name, before=before, after=after, now=now
    )


def _unknown(name: str) -> Refusal:
    return Refusal(
        "unknown_maintenance_window",
        f"The team has no maintenance window {name!r:.220}. Nothing was changed.",
        status=404,
    )
