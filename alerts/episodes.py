"""What the rules of a target say together: what would have been incidents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from budgets.burn_rates import Severity

from .minutes import Minutes
from .replays import Transition, replay
from .rules import Rule

REOPENS_WITHIN: Final = timedelta(minutes=30)
"""What fires again so soon after its end is the same incident."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules of a target say together from `at` on, until the next."""

    at: datetime
    severity: Severity | None
    """The highest of those that fire or recover; None where none does."""
    keys: tuple[str, ...]
    """The rules that fire or recover, in the order in which they were given."""


@dataclass(frozen=True, slots=True)
class Episode:
    """What would have been one incident, reopened or not."""

    started_at: datetime
    ended_at: datetime | None
    """None where it lasted beyond what was replayed."""
    severity: Severity
    """The highest that it had."""
    paged_at: datetime | None
    """When it first was a page."""
    keys: tuple[str, ...]
    """The rules that fired, in the order in which they did."""


def replay_together(
    rules: Mapping[str, Rule], minutes: Minutes, *, since: datetime | None = None
) -> list[Standing]:
    """Every change of what these rules of one target say together."""
    return together({key: replay(rule, minutes, since=since) for key, rule in rules.items()})


def together(transitions: Mapping[str, Iterable[Transition]]) -> list[Standing]:
    """Every change of what rules say together, from the transitions of each by its key."""
    changes = sorted(
        ((one.at, key, one) for key, several in transitions.items() for one in several), key=lambda c: c[0]
    )
    active: dict[str, Severity | None] = dict.fromkeys(transitions)
    standings: list[Standing] = []
    for n, (at, key, one) in enumerate(changes):
        active[key] = one.decision.severity if one.decision.is_active else None
        if n + 1 < len(changes) and changes[n + 1][0] == at:
            continue
        severities = set(active.values())
        severity = next((one for one in (Severity.PAGE, Severity.TICKET) if one in severities), None)
        keys = tuple(name for name, its_severity in active.items() if its_severity is not None)
        before = standings[-1] if standings else None
        if (severity, keys) != ((before.severity, before.keys) if before else (None, ())):
            standings.append(Standing(at, severity, keys))
    return standings


def severity_at(standings: Iterable[Standing], at: datetime) -> Severity | None:
    """The severity at an instant: what incidents of it have then."""
    severity = None
    for one in standings:
        if one.at > at:
            break
        severity = one.severity
    return severity


def episodes(standings: Iterable[Standing], *, reopens_within: timedelta = REOPENS_WITHIN) -> list[Episode]:
    """What would have been incidents. One that fires again within `reopens_within` of its end is the same."""
    found: list[Episode] = []
    is_open = False
    for one in standings:
        if one.severity is None:
            last = found[-1]
            found[-1] = Episode(last.started_at, one.at, last.severity, last.paged_at, last.keys)
            is_open = False
            continue
        last_end = found[-1].ended_at if found else None
        is_reopened = last_end is not None and one.at - last_end <= reopens_within
        if not is_open and not is_reopened:
            found.append(Episode(one.at, None, one.severity, None, ()))
        is_open = True
        last = found[-1]
        is_page = Severity.PAGE in (last.severity, one.severity)
        found[-1] = Episode(
            last.started_at,
            None,
            Severity.PAGE if is_page else Severity.TICKET,
            last.paged_at or (one.at if one.severity == Severity.PAGE else None),
            tuple(dict.fromkeys((*last.keys, *one.keys))),
        )
    return found
