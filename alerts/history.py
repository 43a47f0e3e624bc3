"""What an incident is after each of its events. The row of an incident is nothing but the sum of these.

Every change of an incident is an event first and is then applied by `after`, so that the events alone
rebuild the incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol


class Event(Protocol):
    """What `after` reads of an IncidentEvent."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def actor(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """The facts of an incident that change while it lives, named as the fields of its row.

    `figures` are the numbers behind the summary, `attribution` how the components share in it and `changes` what
    changed before; events written before there were any lack them. `opened_at` is the first time, `reopened_at`
    the last one that it came back. `evidence` are the names of the conditions that hold, sorted;
    `paging_ended_at` is since when none of a page's would page.
    """

    state: str
    severity: str
    rule: str
    summary: str
    cause: Mapping[str, Any] | None
    burn_rate: float | None
    opened_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    resolved_at: datetime | None = None
    resolved_by: str = ""
    resolved_reason: str = ""
    merged_into_id: int | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    attribution: Mapping[str, Any] | None = None
    changes: Sequence[Mapping[str, Any]] = field(default_factory=list)
    reopened_at: datetime | None = None
    reopenings: int = 0
    is_flapping: bool = False
    evidence: Sequence[str] = field(default_factory=list)
    paging_ended_at: datetime | None = None


def replay(events: Iterable[Event]) -> IncidentFacts:
    """The incident that its events, in their order, tell of. Raises ValueError where they tell of none."""
    facts: IncidentFacts | None = None
    for event in events:
        facts = after(facts, event)
    if facts is None:
        raise ValueError("an incident begins with the event that opened it, got no event")
    return facts


def after(facts: IncidentFacts | None, event: Event) -> IncidentFacts:
    """The incident once `event` has happened to it; `facts` is None for the event that opens it.

    Raises ValueError for an event that cannot follow.
    """
    if facts is None:
        if event.kind != "opened":
            raise ValueError(f"an incident begins with the event that opened it, got {event.kind}")
        details = event.details
        return IncidentFacts(
            state="open",
            severity=details["severity"],
            rule=details["rule"],
            summary=details["summary"],
            cause=details["cause"],
            burn_rate=details["burn_rate"],
            opened_at=event.at,
            figures=details.get("figures", {}),
            attribution=details.get("attribution"),
            changes=details.get("changes", []),
            evidence=sorted(details["evidence"]),
        )
    match event.kind:
        case "evidence":
            joined, left = event.details.get("joined", ()), event.details.get("left", ())
            is_paging = event.details.get("is_paging")
            return replace(
                facts,
                evidence=sorted({*facts.evidence, *joined} - set(left)),
                paging_ended_at=(
                    facts.paging_ended_at if is_paging is None else None if is_paging else event.at
                ),
            )
        case "severity_raised":
            raised = replace(facts, **_found(event))
            if not event.details.get("is_acknowledgement_taken_back"):
                return raised
            return replace(raised, state="open", acknowledged_at=None, acknowledged_by="")
        case "cause_changed":
            return replace(
                facts,
                cause=event.details["cause"],
                summary=event.details["summary"],
                figures=event.details.get("figures", facts.figures),
                attribution=event.details.get("attribution", facts.attribution),
                changes=event.details.get("changes", facts.changes),
            )
        case "acknowledged":
            return replace(facts, state="acknowledged", acknowledged_at=event.at, acknowledged_by=event.actor)
        case "unacknowledged":
            return replace(facts, state="open", acknowledged_at=None, acknowledged_by="")
        case "reopened":
            return replace(
                facts,
                **_found(event),
                state="open",
                acknowledged_at=None,
                acknowledged_by="",
                resolved_at=None,
                resolved_by="",
                resolved_reason="",
                reopened_at=event.at,
                reopenings=facts.reopenings + 1,
                is_flapping=event.details.get("is_flapping", facts.is_flapping),
                evidence=sorted(event.details["evidence"]),
                paging_ended_at=None,
            )
        case "flapping":
            return replace(facts, is_flapping=True)
        case "told" | "noted":
            return facts
        case "resolved":
            return _resolved(facts, event)
        case "merged":
            return replace(_resolved(facts, event), merged_into_id=event.details["into"])
        case kind:
            raise ValueError(f"{kind!r} cannot follow on what opened an incident")


_FOUND = ("severity", "rule", "summary", "cause", "burn_rate")


def _found(event: Event) -> dict[str, Any]:
    """What the rules found, as an event tells it."""
    return {
        **{name: event.details[name] for name in _FOUND},
        "figures": event.details.get("figures", {}),
        "attribution": event.details.get("attribution"),
        "changes": event.details.get("changes", []),
    }


def _resolved(facts: IncidentFacts, event: Event) -> IncidentFacts:
    return replace(
        facts,
        state="resolved",
        resolved_at=event.at,
        resolved_by=event.actor,
        resolved_reason=event.reason,
        evidence=[],
        paging_ended_at=None,
    )
