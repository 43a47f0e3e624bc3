"""Alerts tested as code: what was measured minute by minute, and what the rules should have said when.

A scenario (alerts.scenario_documents reads it) is replayed through the rules themselves (alerts.replays), without a
database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from .episodes import episodes, together
from .lookbacks import observed
from .minutes import Minutes
from .replays import Transition, replay
from .rules import Previous, Rule, Status
from .series_notation import write_duration

NONE: Final = "none"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What should be so at an instant, `after` the series began. What is None, or not named, is not asked."""

    after: timedelta
    states: Mapping[str, str]
    severity: str | None
    incident: str | None
    path: Path


@dataclass(frozen=True, slots=True)
class Scenario:
    """One test: rules by their keys, what was measured, what is expected."""

    name: str
    rules: Mapping[str, Rule]
    minutes: Minutes
    expectations: tuple[Expectation, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that was expected and did not come. `numbers` are what decided."""

    expectation: Expectation
    what: str
    expected: str
    came: str
    numbers: str


def differences(scenario: Scenario) -> list[Difference]:
    """What did not come as expected, in the order of the expectations."""
    minutes = scenario.minutes
    transitions = {key: list(replay(rule, minutes)) for key, rule in scenario.rules.items()}
    found: list[Difference] = []
    for one in scenario.expectations:
        at = minutes.start + one.after
        past = {key: [t for t in several if t.at <= at] for key, several in transitions.items()}
        for key, expected in one.states.items():
            came = str(past[key][-1].status if past[key] else Status.INACTIVE)
            if came != expected:
                numbers = _numbers(scenario.rules[key], minutes, at, past[key], transitions[key])
                found.append(Difference(one, f"state of {key}", expected, came, numbers))
        incident, severity = _incident(past)
        told = _changes({key: several for key, several in transitions.items() if several}, minutes.start)
        if one.severity is not None and severity != one.severity:
            found.append(Difference(one, "severity", one.severity, severity, told))
        if one.incident is not None and incident != one.incident:
            found.append(Difference(one, "incident", one.incident, incident, told))
    return found


def _incident(past: Mapping[str, Sequence[Transition]]) -> tuple[str, str]:
    """The state of the incident that the rules made, and its severity while it is open."""
    several = episodes(together(past))
    if not several:
        return NONE, NONE
    return ("resolved", NONE) if several[-1].ended_at else ("open", str(several[-1].severity))


def _numbers(
    rule: Rule,
    minutes: Minutes,
    at: datetime,
    past: Sequence[Transition],
    transitions: Sequence[Transition],
) -> str:
    """What the rule's judge finds at an instant, and when the rule changed."""
    previous = past[-1].decision.remembered() if past else Previous(Status.INACTIVE, minutes.start)
    finding = rule.judge(observed(rule, minutes, minutes.moment(at)), previous, at)
    decided = ", ".join(_flat(finding.evidence))
    return f"{finding.reason}: {decided}; {_changes({'': transitions}, minutes.start)}"


def _flat(evidence: Mapping[str, Any]) -> list[str]:
    """The numbers by which a judge decided: "long 1h: judged 600, bad 20"."""
    said = []
    for name, value in evidence.items():
        if isinstance(value, Mapping):
            its_window = f" {value['window']}" if "window" in value else ""
            numbers = " ".join(f"{key} {_number(v)}" for key, v in value.items() if key != "window")
            said.append(f"{name}{its_window} {numbers}")
        else:
            said.append(f"{name} {_number(value)}")
    return said


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _changes(transitions: Mapping[str, Sequence[Transition]], start: datetime) -> str:
    """When rules changed, for the reader of a difference."""
    several = sorted(
        ((one.at, key, one) for key, changes in transitions.items() for one in changes), key=lambda c: c[0]
    )
    if not several:
        return "it never changed" if transitions else "no rule ever changed"
    shown = [f"{key} {one.status} at {write_duration(at - start)}".lstrip() for at, key, one in several[:12]]
    return "changed: " + ", ".join(shown) + (", …" if len(several) > 12 else "")
