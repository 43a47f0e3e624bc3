"""What happens to an incident.

Each verb takes one step: it writes the event, applies it to the incident's row and writes the messages to
the channels, all in the caller's transaction or one of its own. Rules take their steps through
alerts.settlement, which decides which; people through `acknowledge` and `resolve`.

What becomes due by the clock alone (escalation, updates, reminders) is alerts.follow_ups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from budgets import audit
from budgets.models import Component, Feature

from .directory import Directory
from .escalation import FLAPS_AFTER, FLAPS_WITHIN, REOPENS_WITHIN
from .history import IncidentFacts, after
from .models import Incident, IncidentEvent, Notification
from .rules import Reason
from .telling import note_news, note_word, tell
from .wording import MERGED

Kind = IncidentEvent.Kind

RECOVERED = "recovered"
BY_HAND = "by_hand"
SILENT_HOLDER = "no_word"

_ROW = tuple(each.name for each in fields(IncidentFacts))


TargetKey = tuple[int, str, str | None, int | None]
"""Feature's id, environment, milestone, component's id."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an incident is about: a milestone or a component of a feature, in one environment."""

    feature: Feature
    environment: str
    milestone: str | None = None
    component: Component | None = None

    @property
    def key(self) -> TargetKey:
        component_id = self.component.pk if self.component is not None else None
        return self.feature.pk, self.environment, self.milestone, component_id


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found, as the incident tells it.

    `cause` is {"component", "allocated_ms", "observed_ms"} or None; `burn_rate` the long window's of the
    tier that fired, None for other rules. `figures` is the document of wording.Figures, from which the
    summary was written. `attribution` is how the components share in it, `changes` what changed before.
    `decided_by` is the condition that decided, with its numbers: {"condition", "reason", "evidence"}.
    """

    severity: str
    rule: str
    reason: str
    summary: str
    cause: dict[str, Any] | None
    burn_rate: float | None
    figures: Mapping[str, Any] = field(default_factory=dict)
    attribution: Mapping[str, Any] | None = None
    changes: Sequence[Mapping[str, Any]] = ()
    decided_by: Mapping[str, Any] | None = None

    @property
    def details(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "rule": self.rule,
            "summary": self.summary,
            "cause": self.cause,
            "burn_rate": self.burn_rate,
            "figures": dict(self.figures),
            "attribution": self.attribution,
            "changes": [dict(one) for one in self.changes],
            "decided_by": self.decided_by,
        }


# Steps that rules take


def open_incident(
    *,
    target: Target,
    finding: Finding,
    evidence: Collection[str],
    now: datetime,
    ended: Mapping[TargetKey, int] | None = None,
    directory: Directory | None = None,
) -> Incident | None:
    """Opens an incident and tells of it; None where the target has one that is not resolved.

    Where the last one of the target ended within half an hour, it is that one which opens again. `evidence`
    names the conditions that hold. Who opens many at once gives what `ended_lately`, and whom to tell.
    """
    if ended is None:
        ended = ended_lately([target.feature.pk], now=now)
    if (earlier := ended.get(target.key)) is not None:
        with transaction.atomic():
            return _come_back(Incident.objects.for_step(earlier), finding, evidence, now)
    event = IncidentEvent(
        kind=Kind.OPENED,
        at=now,
        reason=finding.reason,
        details={**finding.details, "evidence": sorted(evidence)},
    )
    incident = Incident(
        feature=target.feature,
        environment=target.environment,
        milestone=target.milestone,
        component=target.component,
        **_row_of(after(None, event)),
    )
    try:
        with transaction.atomic():
            incident.save(force_insert=True)
            event.incident = incident
            event.save(force_insert=True)
            tell(
                incident=incident,
                event=Notification.Event.OPENED,
                now=now,
                is_new=True,
                directory=directory,
            )
    except IntegrityError as error:
        if _is_second(error):
            return None
        raise
    return incident


def ended_lately(feature_ids: Collection[int], *, now: datetime) -> dict[TargetKey, int]:
    """Target → the id of its last incident where that ended by itself within half an hour.

    Not one that another took over, that a person resolved or whose rule went away: those are over for good.
    """
    found = Incident.objects.filter(
        feature__in=feature_ids,
        state=Incident.State.RESOLVED,
        resolved_reason__in=[RECOVERED, Reason.NO_DATA_TIMEOUT],
        resolved_at__gt=now - REOPENS_WITHIN,
    )
    rows = found.order_by("resolved_at").values_list(
        "feature_id", "environment", "milestone", "component_id", "pk"
    )
    return {
        (feature, environment, milestone, component): pk
        for feature, environment, milestone, component, pk in rows
    }


def _come_back(
    incident: Incident, finding: Finding, evidence: Collection[str], now: datetime
) -> Incident | None:
    """None where somebody was faster, or another incident of the target opened meanwhile."""
    if incident.state != Incident.State.RESOLVED:
        return None
    try:
        return reopen(incident=incident, finding=finding, evidence=evidence, now=now)
    except IntegrityError as error:
        if _is_second(error):
            return None
        raise


def reopen(*, incident: Incident, finding: Finding, evidence: Collection[str], now: datetime) -> Incident:
    """Opens an incident again that has ended, or that nobody would have been paged for by now, and tells of it.

    Whoever had it does not have it any more. Where that happens too often, it is flapping until it is rarer again.
    """
    recent = incident.events.filter(kind=Kind.REOPENED, at__gt=now - FLAPS_WITHIN).count() + 1
    flaps = recent >= FLAPS_AFTER
    begins_to_flap = flaps and not incident.is_flapping
    details = {
        **finding.details,
        "evidence": sorted(evidence),
        "is_flapping": flaps and incident.is_flapping,
    }
    with transaction.atomic():
        _step(incident, Kind.REOPENED, now, reason=finding.reason, details=details)
        if begins_to_flap:
            _step(incident, Kind.FLAPPING, now, details={"reopenings": recent})
        tell(incident=incident, event=Notification.Event.REOPENED, now=now)
    return incident


def _is_second(error: IntegrityError) -> bool:
    """Whether it says that the target has an incident that is not resolved."""
    diagnosis = getattr(error.__cause__, "diag", None)
    return bool(diagnosis and diagnosis.constraint_name == "incident_one_unresolved_per_target")


def raise_severity(*, incident: Incident, finding: Finding, now: datetime) -> Incident:
    """Makes a ticket a page and tells of it as of an opening, also those who take only pages.

    Who acknowledged the ticket has not seen the page: it is open, and escalates until somebody acknowledges it.
    """
    is_acknowledged = incident.state == Incident.State.ACKNOWLEDGED
    details = {**finding.details, **({"is_acknowledgement_taken_back": True} if is_acknowledged else {})}
    with transaction.atomic():
        _step(incident, Kind.SEVERITY_RAISED, now, reason=finding.reason, details=details)
        tell(incident=incident, event=Notification.Event.OPENED, now=now)
    return incident


def change_evidence(
    *,
    incident: Incident,
    joined: Collection[str],
    left: Collection[str],
    is_paging: bool | None = None,
    now: datetime,
) -> Incident:
    """Notes which conditions began to hold and which ended, and whether one of them pages, where that changed;
    nobody is told."""
    details: dict[str, Any] = {"joined": sorted(joined), "left": sorted(left)}
    if is_paging is not None:
        details["is_paging"] = is_paging
    _step(incident, Kind.EVIDENCE, now, details=details)
    return incident


def change_cause(
    *,
    incident: Incident,
    cause: dict[str, Any] | None,
    summary: str,
    figures: Mapping[str, Any] | None = None,
    attribution: Mapping[str, Any] | None = None,
    is_news: bool = True,
    now: datetime,
) -> Incident:
    """Notes another cause than was known before, which the next update tells; without news only how it is known
    changed, and nobody is told for that. What is not given stays."""
    details: dict[str, Any] = {"cause": cause, "summary": summary}
    if figures is not None:
        details["figures"] = dict(figures)
    if attribution is not None:
        details["attribution"] = dict(attribution)
    with transaction.atomic():
        _step(incident, Kind.CAUSE_CHANGED, now, details=details)
        if is_news:
            note_news(incident=incident, now=now)
    return incident


def merge(*, incident: Incident, into: Incident, now: datetime) -> Incident:
    """Ends a component's incident because its milestone's pages somebody. People hear nothing of it; programs that
    hold an alert for it are told that it is over."""
    with transaction.atomic():
        _step(incident, Kind.MERGED, now, reason=MERGED, details={"into": into.pk})
        tell(incident=incident, event=Notification.Event.RESOLVED, now=now)
    return incident


def resolve_by_rules(*, incident: Incident, reason: str, now: datetime) -> Incident:
    """Ends an incident of which no condition holds any more, and tells of it."""
    with transaction.atomic():
        _step(incident, Kind.RESOLVED, now, reason=reason)
        tell(incident=incident, event=Notification.Event.RESOLVED, now=now)
    return incident


def unacknowledge(*, incident: Incident, now: datetime) -> Incident:
    """Opens an incident again of whose holder nothing was heard for long, and tells of it as of an opening."""
    with transaction.atomic():
        details = {"acknowledged_by": incident.acknowledged_by}
        _step(incident, Kind.UNACKNOWLEDGED, now, reason=SILENT_HOLDER, details=details)
        tell(incident=incident, event=Notification.Event.UNACKNOWLEDGED, now=now)
    return incident


# Steps that people take


def acknowledge(*, incident_id: int, actor: str, note: str = "", now: datetime) -> Incident:
    """Notes that somebody has it, and tells of it. One that is acknowledged or resolved stays as it is.

    Raises Incident.DoesNotExist.
    """
    with transaction.atomic():
        incident = Incident.objects.for_step(incident_id)
        if incident.state == Incident.State.OPEN:
            _step_by_hand(incident, Kind.ACKNOWLEDGED, now, actor=actor, note=note)
            tell(incident=incident, event=Notification.Event.ACKNOWLEDGED, note=note, now=now)
    return incident


def note(*, incident_id: int, actor: str, text: str, now: datetime) -> Incident:
    """Keeps a word of a person with the incident; nobody is told. From whoever acknowledged the incident, it is
    the sign of life that a policy waits for. Raises Incident.DoesNotExist."""
    with transaction.atomic():
        incident = Incident.objects.for_step(incident_id)
        _step_by_hand(incident, Kind.NOTED, now, actor=actor, note=text)
        if incident.state == Incident.State.ACKNOWLEDGED and incident.acknowledged_by == actor:
            note_word(incident=incident, now=now)
    return incident


def resolve(*, incident_id: int, actor: str, note: str = "", now: datetime) -> Incident:
    """Ends an incident because a person says so, and tells of it. A resolved one stays as it is.

    No new one takes its place until each of its conditions has been inactive once, or 30 minutes have
    passed. Raises Incident.DoesNotExist.
    """
    with transaction.atomic():
        incident = Incident.objects.for_step(incident_id)
        if incident.state != Incident.State.RESOLVED:
            _step_by_hand(incident, Kind.RESOLVED, now, actor=actor, reason=BY_HAND, note=note)
            tell(incident=incident, event=Notification.Event.RESOLVED, note=note, now=now)
    return incident


# One step


def _step_by_hand(
    incident: Incident, kind: IncidentEvent.Kind, now: datetime, *, actor: str, note: str, reason: str = ""
) -> None:
    """A step that somebody took: the audit log has it, too."""
    before = str(incident.state)
    _step(incident, kind, now, actor=actor, reason=reason, note=note)
    audit.record(
        team=incident.feature.team,
        actor=actor,
        action=f"incident.{kind}",
        subject=f"incident {incident.pk}: {incident.summary}",
        before={"state": before},
        after={"state": str(incident.state), **({"note": note} if note else {})},
        now=now,
    )


def _step(
    incident: Incident,
    kind: IncidentEvent.Kind,
    now: datetime,
    *,
    actor: str = "",
    reason: str = "",
    note: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    event = IncidentEvent(
        incident=incident,
        kind=kind,
        # The clocks of two machines differ; nothing ends before it began.
        at=max(now, incident.opened_at),
        actor=actor,
        reason=reason,
        note=note,
        details=dict(details or {}),
    )
    row = _row_of(after(facts_of(incident), event))
    changed = [name for name, value in row.items() if getattr(incident, name) != value]
    for name in changed:
        setattr(incident, name, row[name])
    with transaction.atomic():
        event.save(force_insert=True)
        if changed:
            incident.save(update_fields=changed)


def facts_of(incident: Incident) -> IncidentFacts:
    """The facts that the row holds."""
    return IncidentFacts(**{name: getattr(incident, name) for name in _ROW})


def _row_of(facts: IncidentFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in _ROW}
