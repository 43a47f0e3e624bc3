"""What holds notifications back: silences and open maintenance windows. Neither hides an incident."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.features import instant
from budgets.models import Team

from . import maintenance
from .fields import Fields
from .held import look_again
from .matchers import described, fits, problems
from .models import Incident, MaintenanceWindow, Silence
from .subjects import fits_all, subjects_of
from .troubles import say_once

log = logging.getLogger(__name__)

# As FollowUp.held_by keeps it.
MAX_TEXT_CHARACTERS: Final = 300
MAX_REASON_CHARACTERS: Final = 500
# Longer than anybody means to hear nothing: what lasts is for a rule, or a channel's severity.
MAX_DAYS: Final = 90
MAX_DAYS_AHEAD: Final = 366
# In force or coming, of a team.
MAX_SILENCES: Final = 500
_WINDOW: Final = "maintenance window "
FIELDS: Final = ("matchers", "reason", "starts_at", "ends_at")
READ_ONLY_FIELDS: Final = ("id", "state", "author", "created_at", "ended_by")


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds an incident's messages back, for people, e.g. `silence “Index rebuild” of ada@example.com`."""

    text: str
    until: datetime

    @property
    def is_window(self) -> bool:
        return is_window(self.text)


def is_window(text: str) -> bool:
    """Whether it was a maintenance window, of a Hold's text as it was written down."""
    return text.startswith(_WINDOW)


def facts_of(incident: Incident) -> dict[str, str]:
    """What matchers compare. Reads the incident's feature and component.

    `component` is that of a component's own incident: one about a milestone has none, whatever its cause is.
    """
    return {
        "feature": incident.feature.slug,
        "milestone": incident.milestone or "",
        "component": incident.component.name if incident.component else "",
        "environment": incident.environment,
        "severity": str(incident.severity),
    }


def teams_that_hold(now: datetime) -> set[int]:
    """Ids of the teams that have a silence in force, or a maintenance window that may be open."""
    silences = Silence.objects.in_force(now).order_by().values_list("team", flat=True)
    windows = MaintenanceWindow.objects.filter(is_enabled=True).order_by().values_list("team", flat=True)
    return set(silences.union(windows))


class Holds:
    """What holds messages of these teams back now: two queries, however many incidents are asked about."""

    def __init__(self, team_ids: Collection[int], *, now: datetime) -> None:
        self._silences = []
        for silence in Silence.objects.in_force(now).filter(team__in=team_ids):
            if not say_once(log, silence, trouble_with(silence), f"Silence {silence.pk} holds nothing back"):
                self._silences.append(silence)
        windows = MaintenanceWindow.objects.filter(team__in=team_ids, is_enabled=True)
        self._windows = [
            (window, one) for window in windows if (one := maintenance.open_at(window, now)) is not None
        ]

    def on(self, incident: Incident) -> Hold | None:
        """Of several that which ends last. Reads the incident's feature and component."""
        if not self._silences and not self._windows:
            return None
        facts, team_id = facts_of(incident), incident.feature.team_id
        candidates = [
            Hold(_of_silence(silence), silence.ends_at)
            for silence in self._silences
            if silence.team_id == team_id and fits(silence.matchers, facts)
        ]
        candidates += [
            Hold(_of_window(window), occurrence.ends_at)
            for window, occurrence in self._windows
            if window.team_id == team_id and fits(window.matchers, facts)
        ]
        return max(candidates, key=lambda one: one.until, default=None)


def holds(incidents: Collection[Incident], *, now: datetime) -> dict[int, Hold]:
    """Incident's id → what holds its messages back now. Others are left out."""
    of_teams = Holds({incident.feature.team_id for incident in incidents}, now=now)
    found = ((incident.pk, of_teams.on(incident)) for incident in incidents)
    return {pk: hold for pk, hold in found if hold is not None}


def trouble_with(silence: Silence) -> str:
    """Why a silence's matchers cannot be read, in a sentence; "" where they can. It then holds nothing back, as a
    maintenance window of which that is so."""
    return " ".join(problems(silence.matchers, may_be_empty=True))


def _of_silence(silence: Silence) -> str:
    by = f"” of {silence.author}"
    text = f"silence “{' '.join(silence.reason.split())}"
    return f"{text[: MAX_TEXT_CHARACTERS - len(by)]}{by}"[:MAX_TEXT_CHARACTERS]


def _of_window(window: MaintenanceWindow) -> str:
    return f"{_WINDOW}“{window.name}”"


# Silences are made and ended


@dataclass(frozen=True, slots=True)
class Draft:
    """A silence as it would be made."""

    matchers: list[dict[str, str]]
    reason: str
    starts_at: datetime
    ends_at: datetime


def read_silence(document: Any, *, team: Team, now: datetime) -> Draft:
    """A document as the silence that it asks for: {"matchers", "reason", "starts_at", "ends_at"}.

    Without a start, or with one that is past, it starts now. What would leave out no incident that the team can have now is
    refused, however it is put. Raises Refusal: invalid_document, invalid_silence.
    """
    fields = Fields(document, known=FIELDS, read_only=READ_ONLY_FIELDS, code="invalid_silence")
    matchers = fields.matchers(may_be_empty=False)
    reason = fields.text("reason", least=1, most=MAX_REASON_CHARACTERS)
    starts_at = max(now, fields.instant("starts_at", default=now))
    ends_at = fields.instant("ends_at")
    if "starts_at" not in fields.wrong and starts_at > now + timedelta(days=MAX_DAYS_AHEAD):
        fields.add("starts_at", f"starts_at is at most {MAX_DAYS_AHEAD} days ahead.")
    elif "ends_at" not in fields.wrong and ends_at <= starts_at:
        begins = "now" if starts_at == now else audit.instant(starts_at)
        fields.add("ends_at", f"ends_at must be after the start ({begins}), got {audit.instant(ends_at)}.")
    elif "ends_at" not in fields.wrong and ends_at > starts_at + timedelta(days=MAX_DAYS):
        fields.add(
            "ends_at",
            f"A silence lasts at most {MAX_DAYS} days, got {(ends_at - starts_at) / timedelta(days=1):.1f}.",
        )
    if not fields.wrong and fits_all(matchers, subjects_of(team)):
        fields.add(
            "matchers",
            f"{described(matchers)} fits everything that the team has now, and would hold back every message of the team. "
            f"Name a feature, or say less.",
        )
    fields.refuse()
    return Draft(matchers, reason, starts_at, ends_at)


def create_silence(*, team: Team, document: Any, actor: str, now: datetime) -> Silence:
    """Makes what `read_silence` reads. Raises Refusal, and then nothing was made."""
    draft = read_silence(document, team=team, now=now)
    with transaction.atomic():
        # One after the other within a team, so that the limit holds.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        if Silence.objects.not_over(now).filter(team=team).count() >= MAX_SILENCES:
            said = f"The team has {MAX_SILENCES} silences in force or coming already: end some first."
            raise Refusal.of("invalid_silence", {"document": [said]})
        silence = Silence.objects.create(
            team=team,
            matchers=draft.matchers,
            reason=draft.reason,
            author=actor[:300],
            starts_at=draft.starts_at,
            ends_at=draft.ends_at,
            created_at=now,
        )
        _record(silence, "silence.created", actor, None, now)
    return silence


def end_silence(*, silence_id: int, actor: str, now: datetime) -> Silence:
    """Ends it now, or, where it had not begun, before it begins. One that is over stays as it is.

    What it held back is looked at again at once. Raises Refusal("unknown_silence").
    """
    with transaction.atomic():
        silence = (
            Silence.objects.select_for_update(of=("self",))
            .select_related("team")
            .filter(pk=silence_id)
            .first()
        )
        if silence is None:
            raise Refusal("unknown_silence", "There is no such silence. Nothing was changed.", status=404)
        if silence.ends_at <= now or silence.ended_by:
            return silence
        before = audited(silence)
        silence.ends_at, silence.ended_by = max(now, silence.starts_at), actor[:300]
        silence.save(update_fields=["ends_at", "ended_by"])
        _record(silence, "silence.ended", actor, before, now)
        look_again(silence.team_id, now=now)
    return silence


def state_of(silence: Silence, now: datetime) -> str:
    """`coming`, `current` or `past`."""
    if silence.ends_at <= now or silence.starts_at == silence.ends_at:
        return "past"
    return "current" if silence.starts_at <= now else "coming"


def silence_document(silence: Silence, *, now: datetime) -> dict[str, Any]:
    """A silence as programs see it; `ended_by` is null unless somebody ended it before its time."""
    return {
        "id": silence.pk,
        "state": state_of(silence, now),
        "matchers": silence.matchers,
        "reason": silence.reason,
        "author": silence.author,
        "starts_at": instant(silence.starts_at),
        "ends_at": instant(silence.ends_at),
        "created_at": instant(silence.created_at),
        "ended_by": silence.ended_by or None,
    }


def audited(silence: Silence) -> dict[str, Any]:
    """A silence as the audit log keeps it."""
    return {
        "matchers": described(silence.matchers),
        "reason": silence.reason,
        "starts_at": audit.instant(silence.starts_at),
        "ends_at": audit.instant(silence.ends_at),
    }


def _record(silence: Silence, action: str, actor: str, before: dict[str, Any] | None, now: datetime) -> None:
    audit.record(
        team=silence.team,
        actor=actor,
        action=action,
        subject=f"silence {silence.pk}",
        before=before,
        after=audited(silence),
        now=now,
    )
