"""What the budget editor shows of the alerts that its numbers would have raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from alerts.backtests import DAYS, Backtest
from alerts.episodes import Episode
from alerts.proposals import Proposal, ProposalReplay, replay_proposals
from budgets import formats
from budgets.contexts.parts import milestone_name, plural
from budgets.models import Feature

SHOWN: Final = 10


@dataclass(frozen=True)
class ReplayLine:
    """A milestone's latency budget as it is typed, and what its burn-rate rules would have told."""

    name: str
    days: int
    told: str
    """ "3 pages, 2 tickets, open for 5 h 12 min"; empty where there is nothing to count, which a note explains."""
    is_paged: bool
    as_judged: str
    """The same under the version in force; empty where there is none."""
    incidents: list[Episode]
    """The latest first."""
    more: int
    """How many are not listed."""
    notes: list[str]


def replay_lines(
    feature: Feature, document: Mapping[str, Any], *, environment: str, now: datetime
) -> list[ReplayLine]:
    """Of every latency budget that the document of a draft can be read to say."""
    proposals = [
        Proposal(
            milestone=one["milestone"],
            budget_ms=float(one["budget_ms"]),
            objective=Decimal(str(one["objective"])),
            window_days=one["window_days"],
        )
        for one in document["latency_budgets"]
    ]
    found = replay_proposals(feature=feature, environment=environment, proposals=proposals, now=now)
    return [_line(one, environment) for one in found]


def _line(one: ProposalReplay, environment: str) -> ReplayLine:
    found = one.backtest
    name = milestone_name(one.proposal.milestone)
    if found.measured_from is None:
        return _nothing(name, f"Nothing was measured in {environment} in the last {DAYS} days.")
    if not one.is_watched:
        return _nothing(
            name, f"No enabled burn-rate rule watches it in {environment}, so nobody would be told."
        )
    as_judged = ""
    if one.as_judged is not None and one.in_force is not None:
        version = f"under version {one.in_force.version}, as it was judged"
        is_same = _told(found) == _told(one.as_judged)
        as_judged = f"The same {version}." if is_same else f"U{version[1:]}: {_told(one.as_judged)}."
    return ReplayLine(
        name=name,
        days=one.days,
        told=_told(found),
        is_paged=bool(found.pages),
        as_judged=as_judged,
        incidents=[*reversed(found.incidents[-SHOWN:])],
        more=max(0, len(found.incidents) - SHOWN),
        notes=[*found.notes],
    )


def _nothing(name: str, why: str) -> ReplayLine:
    return ReplayLine(name, DAYS, "", False, "", [], 0, [why])


def _told(found: Backtest) -> str:
    if not found.incidents:
        return "no page, no ticket"
    counted = [
        f"{number} {plural(word, number)}"
        for number, word in ((found.pages, "page"), (found.tickets, "ticket"))
        if number
    ]
    # One that lasts for a week is told once: the number alone would make it look better than ten short ones.
    lasted = sum(((one.ended_at or found.end) - one.started_at for one in found.incidents), timedelta())
    return ", ".join([*counted, f"open for {formats.lasting(lasted.total_seconds())}"])
