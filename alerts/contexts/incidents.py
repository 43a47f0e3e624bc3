"""What the regions of the incident pages show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, IntegerField, Value, When
from django.urls import reverse

from alerts.contexts.causes import CauseTable, cause_in_short, cause_table, cause_words
from alerts.contexts.frozen import Frozen, frozen
from alerts.contexts.outcomes import Outcome, outcome
from alerts.contexts.tellings import Telling, Tellings, tellings
from alerts.evidence import evidence_words, reason_words
from alerts.models import AlertRule, Incident, IncidentEvent
from alerts.rule_names import rule_behind
from alerts.silences import Hold, facts_of, holds
from alerts.summaries import ENDINGS, ending
from budgets import charts, formats
from budgets.contexts.frame import View, with_query
from budgets.contexts.parts import ChartPlace, Fact, milestone_name
from budgets.models import Feature, User
from budgets.status import WINDOWS

PAGE_SIZE: Final = 25
# Of an incident that has been open for days there are hundreds of steps: the opening and so many of the latest.
STEPS_SHOWN: Final = 50
TELLINGS_SHOWN: Final = 20
# How much of the time before and after an incident its chart shows.
BEFORE: Final = timedelta(hours=1)
AFTER: Final = timedelta(minutes=15)

Kind = IncidentEvent.Kind
Entry = TypeVar("Entry")

# The state that an incident has after a step.
_STATES: Final = {
    Kind.OPENED: Incident.State.OPEN,
    Kind.ACKNOWLEDGED: Incident.State.ACKNOWLEDGED,
    Kind.UNACKNOWLEDGED: Incident.State.OPEN,
    Kind.REOPENED: Incident.State.OPEN,
    Kind.RESOLVED: Incident.State.RESOLVED,
    Kind.MERGED: Incident.State.RESOLVED,
}


# Lists


@dataclass(frozen=True)
class IncidentLine:
    """An incident in a list."""

    incident: Incident
    url: str
    target: str
    until: datetime
    hold: Hold | None
    """What holds its messages back now."""

    @property
    def hold_word(self) -> str:
        return "in maintenance" if self.hold and self.hold.is_window else "silenced"


def lines_of(incidents: Iterable[Incident], now: datetime) -> list[IncidentLine]:
    """Reads the incidents' features and components, and what holds back messages of those that are not resolved."""
    found = list(incidents)
    held = holds([one for one in found if one.state != Incident.State.RESOLVED], now=now)
    return [
        IncidentLine(
            incident,
            incident.get_absolute_url(),
            target_name(incident),
            incident.resolved_at or now,
            held.get(incident.pk),
        )
        for incident in found
    ]


def target_name(incident: Incident) -> str:
    """What an incident is about: "First token", or the name of a component."""
    return incident.component.name if incident.component else milestone_name(str(incident.milestone))


@dataclass(frozen=True)
class IncidentList:
    """One page of the incidents that a person sees, and the filters over them."""

    page: Page[Incident]
    lines: list[IncidentLine]
    states: list[tuple[str, str, int]]
    chosen_state: str
    features: Sequence[Feature]
    chosen_feature: Feature | None
    total: int
    as_of: datetime

    @property
    def is_filtered(self) -> bool:
        return bool(self.chosen_state or self.chosen_feature)

    @property
    def unresolved(self) -> int:
        return sum(
            number
            for state, _, number in self.states
            if state in (Incident.State.OPEN, Incident.State.ACKNOWLEDGED)
        )

    @property
    def title(self) -> str:
        return (
            f"✕ {self.unresolved} incidents – Latency Dashboard"
            if self.unresolved
            else "Incidents – Latency Dashboard"
        )

    @property
    def sentence(self) -> str:
        if not self.total:
            return "No incident yet"
        open_count = next(number for state, _, number in self.states if state == Incident.State.OPEN)
        if open_count:
            return f"{open_count} {'incident is' if open_count == 1 else 'incidents are'} open"
        if self.unresolved:
            return f"{self.unresolved} {'incident is' if self.unresolved == 1 else 'incidents are'} being looked at"
        return "All clear: every incident is resolved"


def incident_list(user: User, *, state: str, feature: str, page: str | None, now: datetime) -> IncidentList:
    """The incidents a person may see, unresolved ones first, then the newest."""
    features = list(Feature.objects.visible_to(user).order_by("name"))
    chosen_feature = next((each for each in features if each.slug == feature), None)
    visible = Incident.objects.visible_to(user)
    total = visible.count()
    of_feature = visible if not feature else visible.filter(feature__slug=feature)
    numbers = dict(of_feature.order_by().values_list("state").annotate(number=Count("pk")))
    chosen_state = state if state in Incident.State.values else ""
    found = of_feature if not chosen_state else of_feature.filter(state=chosen_state)
    is_resolved = Case(
        When(state=Incident.State.RESOLVED, then=Value(1)), default=Value(0), output_field=IntegerField()
    )
    ordered = found.select_related("feature", "component").order_by(is_resolved, "-opened_at", "-id")
    shown = Paginator(ordered, PAGE_SIZE).get_page(page)
    return IncidentList(
        page=shown,
        lines=lines_of(shown, now),
        states=[(str(s), str(s.label), numbers.get(str(s), 0)) for s in Incident.State],
        chosen_state=chosen_state,
        features=features,
        chosen_feature=chosen_feature,
        total=total,
        as_of=now,
    )


# One incident


@dataclass(frozen=True)
class LogEntry:
    """One event, told."""

    mark: str
    text: str
    at: datetime
    note: str = ""
    url: str = ""
    decided_by: str = ""
    """The condition that decided, and its numbers."""


@dataclass(frozen=True)
class Change:
    """Something that changed in the hours before."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Log(Generic[Entry]):
    """What happened, in order. Where it is long, its first entry, how many were left out, and the latest."""

    first: Sequence[Entry]
    left_out: int
    rest: Sequence[Entry]


def shortened(entries: Sequence[Entry], *, latest: int, is_whole: bool) -> Log[Entry]:
    left_out = len(entries) - 1 - latest
    # What would save a line or two hides more than it helps.
    if is_whole or left_out < latest // 2:
        return Log(entries, 0, ())
    return Log(entries[:1], left_out, entries[-latest:])


@dataclass(frozen=True)
class IncidentPage:
    incident: Incident
    as_of: datetime
    title: str
    target: str
    verdict_state: str
    can_edit: bool
    is_unresolved: bool
    feature_url: str
    silence_query: str
    """Fills in a silence of incidents like this one."""
    facts: list[Fact]
    cause: str
    log: Log[LogEntry]
    told: Log[Telling]
    tellings: Tellings
    outcome: Outcome
    cause_table: CauseTable | None
    changes: list[Change]
    charts: list[ChartPlace] = field(default_factory=list)

    @property
    def cause_without_chart(self) -> str:
        """The component to blame, where the feature has none of that name any more."""
        cause = self.incident.cause
        if not cause or self.incident.milestone is None or len(self.charts) > 1:
            return ""
        return formats.name(cause["component"])


def incident_page(
    incident: Incident, *, can_edit: bool, is_whole: bool = False, now: datetime
) -> IncidentPage:
    """Everything about one incident, its logs shortened unless they are asked for as a whole. Reads its feature, team,
    component, events, notifications and attempts."""
    is_unresolved = incident.state != Incident.State.RESOLVED
    target = target_name(incident)
    icon = {"open": "✕ ", "acknowledged": "▲ "}.get(incident.state, "")
    events = list(incident.events.all())
    hold = holds([incident], now=now).get(incident.pk) if is_unresolved else None
    told = tellings(incident, events, hold=hold)
    return IncidentPage(
        incident=incident,
        as_of=now,
        title=f"{icon}{incident.feature.name}, {target} – incident {incident.pk}",
        target=target,
        verdict_state={"open": "breached", "acknowledged": "at_risk"}.get(incident.state, "ok"),
        can_edit=can_edit,
        is_unresolved=is_unresolved,
        silence_query=urlencode(
            {name: fact for name, fact in facts_of(incident).items() if name != "severity"}
        ),
        feature_url=with_query(
            incident.feature.get_absolute_url(),
            **{
                "environment": incident.environment,
                "milestone": incident.milestone,
                **range_around(incident, now),
            },
        ),
        facts=_facts(incident, now),
        cause=cause_in_short(incident),
        log=_log(incident, events, is_whole=is_whole),
        told=shortened(told.past, latest=TELLINGS_SHOWN, is_whole=is_whole),
        tellings=told,
        outcome=outcome(incident, events, told.past, hold=hold, now=now),
        cause_table=cause_table(incident),
        changes=[Change(datetime.fromisoformat(one["at"]), one["text"]) for one in incident.changes],
        charts=_chart_places(incident, target),
    )


def chart_target(incident: Incident, name: str) -> tuple[str, str] | None:
    """The series target of one of the incident's charts, and its name in words; None where it has no such chart, or the
    feature no component of the cause's name any more."""
    if name == "latency":
        if incident.component:
            return f"component:{incident.component.name}", incident.component.name
        return f"milestone:{incident.milestone}", milestone_name(str(incident.milestone))
    if name == "cause" and incident.milestone and incident.cause:
        component = str(incident.cause["component"])
        if incident.feature.components.filter(name=component).exists():
            return f"component:{component}", component
    return None


def range_around(incident: Incident, now: datetime) -> dict[str, str | None]:
    """Where the feature's page shows an incident with what came before it, as its address says it: while it lasts the
    shortest window up to now that holds it, afterwards its own range."""
    if incident.resolved_at is not None:
        start, end = chart_range(incident, now)
        return View(environment=incident.environment, as_of=end, now=now, start=start, end=end).query
    reach = now - incident.opened_at + BEFORE
    return {"window": next((name for name, length in WINDOWS.items() if length >= reach), list(WINDOWS)[-1])}


def chart_range(incident: Incident, now: datetime) -> tuple[datetime, datetime]:
    """From an hour before it opened to a quarter of an hour after its end, or to now."""
    end = now if incident.resolved_at is None else min(now, incident.resolved_at + AFTER)
    minute = end.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return incident.opened_at.replace(second=0, microsecond=0) - BEFORE, minute


def chart_markers(incident: Incident) -> list[charts.Marker]:
    steps = [
        (incident.opened_at, "opened", "var(--breached)"),
        (incident.acknowledged_at, "acknowledged", "var(--at-risk)"),
        (incident.resolved_at, "resolved", "var(--ok)"),
    ]
    return [
        charts.Marker(at, text, color, what="Incident", is_step=True)
        for at, text, color in steps
        if at is not None
    ]


def _facts(incident: Incident, now: datetime) -> list[Fact]:
    lasted = formats.lasting(((incident.resolved_at or now) - incident.opened_at).total_seconds())
    facts = [
        Fact("Since", at=incident.opened_at),
        Fact("Lasted" if incident.resolved_at else "Lasting", lasted),
        Fact("Severity", str(incident.get_severity_display())),
        Fact("Rule", incident.rule.replace("_", " "), url=_rule_url(incident)),
    ]
    if incident.burn_rate is not None:
        facts.append(Fact("Burn rate", f"{formats.burn_rate(incident.burn_rate)}, where 1× is sustainable"))
    facts.append(Fact("Environment", incident.environment))
    if incident.acknowledged_at:
        facts.append(Fact(f"Acknowledged by {incident.acknowledged_by}", at=incident.acknowledged_at))
    if incident.resolved_at:
        facts.append(Fact(ending(incident), at=incident.resolved_at))
    elif (without_data := frozen(incident, now=now)) is not None:
        facts += _without_data(without_data)
    return facts


def _without_data(found: Frozen) -> list[Fact]:
    if found.since is None:
        do = "it neither fires nor clears" if len(found.conditions) == 1 else "they neither fire nor clear"
        return [Fact("Without data", f"{_listed(found.conditions)}: {do}")]
    facts = [Fact("No data since", at=found.since)]
    if found.ends_at is not None:
        facts.append(Fact("Ends as silent, unless data comes,", at=found.ends_at))
    return facts


def _rule_url(incident: Incident) -> str:
    """The page of the rule that opened it or raised it; empty where the rule was deleted."""
    rules = AlertRule.objects.filter(feature=incident.feature_id, environment=incident.environment)
    rule = rule_behind(incident, rules)
    return reverse("feature-rule", args=[incident.feature.slug, rule.pk]) if rule else ""


def _log(incident: Incident, events: Iterable[IncidentEvent], *, is_whole: bool) -> Log[LogEntry]:
    steps: list[tuple[IncidentEvent, str]] = []
    state = ""
    for event in events:
        if event.kind != Kind.TOLD:
            steps.append((event, state))
        is_taken_back = event.details.get("is_acknowledgement_taken_back")
        state = Incident.State.OPEN if is_taken_back else _STATES.get(Kind(event.kind), state)
    shown = shortened(steps, latest=STEPS_SHOWN, is_whole=is_whole)
    first, rest = (
        [_entry(event, incident, before) for event, before in part] for part in (shown.first, shown.rest)
    )
    return Log(first, shown.left_out, rest)


def _entry(event: IncidentEvent, incident: Incident, state: str) -> LogEntry:
    """`state` is the incident's before it."""
    details = event.details
    by = f" by {event.actor}" if event.actor else ""
    mark, text, url = "•", str(event.get_kind_display()), ""
    match event.kind:
        case Kind.OPENED:
            mark, text = (
                "✕",
                f"Opened as a {details.get('severity', incident.severity)}: {_listed(details.get('evidence', []))}",
            )
        case Kind.EVIDENCE:
            parts = [("Began", details.get("joined", [])), ("Ended", details.get("left", []))]
            said = [f"{word}: {_listed(names)}" for word, names in parts if names]
            if "is_paging" in details:
                said.append(
                    "It would page again" if details["is_paging"] else "None of these would page any more"
                )
            mark, text = "+", ". ".join(said)
        case Kind.SEVERITY_RAISED:
            mark, text = "✕", f"Raised to a {details.get('severity', 'page')}"
            if details.get("is_acknowledgement_taken_back"):
                text += "; nobody has it any more"
        case Kind.CAUSE_CHANGED:
            cause = details.get("cause")
            text = (
                f"Cause: {cause_words(cause)}" if cause else "No component is known to be the cause any more"
            )
        case Kind.ACKNOWLEDGED:
            mark, text = "▲", f"Acknowledged{by}"
        case Kind.UNACKNOWLEDGED:
            mark = "✕"
            text = f"Open again: nothing was heard of {details.get('acknowledged_by') or 'who had it'}"
        case Kind.NOTED:
            text = f"Note{by}"
        case Kind.RESOLVED:
            mark, text = "✓", f"Resolved{by}" if event.actor else _ended(event)
        case Kind.REOPENED:
            severity = details.get("severity", incident.severity)
            came = "Came back as" if state == Incident.State.RESOLVED else "Began anew as"
            mark, text = "✕", f"{came} a {severity}: {_listed(details.get('evidence', []))}"
            if state == Incident.State.ACKNOWLEDGED:
                text += "; nobody has it any more"
        case Kind.FLAPPING:
            text = "It comes and goes: from here on it is told once an hour"
        case Kind.MERGED:
            into = details.get("into")
            mark, text, url = (
                "→",
                f"Merged into incident {into}, whose milestone it holds up",
                reverse("incident", args=[into]),
            )
    return LogEntry(
        mark=mark, text=text, at=event.at, note=event.note, url=url, decided_by=_decided_by(details)
    )


def _decided_by(details: Mapping[str, Any]) -> str:
    """Which numbers decided a step: "burn rate 1h/5m: both windows burn faster than the limit. 1 h: 40 of 60 bad …"."""
    found = details.get("decided_by")
    if not found:
        return ""
    numbers = evidence_words(found["evidence"])
    said = f"{formats.name(found['condition'].replace('_', ' '))}: {reason_words(found['reason'])}."
    return f"{said} {numbers[:1].upper()}{numbers[1:]}." if numbers else said


def _ended(event: IncidentEvent) -> str:
    return ENDINGS.get(event.reason, "Resolved")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names) or "a rule"


def _chart_places(incident: Incident, target: str) -> list[ChartPlace]:
    places = []
    for name, size in (("latency", "large"), ("cause", "small")):
        found = chart_target(incident, name)
        if found is None:
            continue
        address = {"pk": incident.pk, "name": name}
        title = found[1] if name == "latency" else f"{found[1]}, the cause"
        places.append(
            ChartPlace(
                name=f"incident-{incident.pk}-{name}",
                title=title,
                label=f"Percentiles of {formats.name(found[1])} around the incident",
                url=reverse("incident-chart", kwargs=address | {"form": "json"}),
                csv_url=reverse("incident-chart", kwargs=address | {"form": "csv"}),
                height=charts.HEIGHT_PX[size],
                size=size,  # type: ignore[arg-type]
            )
        )
    return places
