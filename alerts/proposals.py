"""What burn-rate rules would have told of the last weeks under a latency budget that is not saved yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from budgets.limits import BudgetInForce, budgets_in_force
from budgets.minute_counts import minute_counts
from budgets.models import Feature
from budgets.rejudged_minutes import rejudged_minutes

from .backtests import DAYS, Backtest, backtest_of
from .conditions import DEFAULT_ENVIRONMENT
from .lookbacks import looks_back
from .models import AlertRule
from .pasts import Past, as_judged
from .rules import Rule
from .sights import MILESTONE, Scene, sights_of


@dataclass(frozen=True, slots=True)
class Proposal:
    """A latency budget as somebody would have it."""

    milestone: str
    budget_ms: float
    objective: Decimal
    window_days: int


@dataclass(frozen=True, slots=True)
class ProposalReplay:
    """What a proposal would have come to over the days before now, by the feature's own burn-rate rules."""

    proposal: Proposal
    days: int
    backtest: Backtest
    judged: int
    good: int
    is_estimated: bool
    """Whether histograms were asked; else the limit was in force all along, and counters are exact."""
    in_force: BudgetInForce | None
    as_judged: Backtest | None
    """What the same rules make of what was judged, at the objective in force; None without a latency budget."""
    is_watched: bool
    """Whether any enabled burn-rate rule watches the milestone in this environment."""

    @property
    def good_ratio(self) -> float | None:
        """Of all that was measured in these days; None where nothing was."""
        return self.good / self.judged if self.judged else None


def replay_proposals(
    *,
    feature: Feature,
    environment: str,
    proposals: Sequence[Proposal],
    now: datetime,
    days: int = DAYS,
) -> list[ProposalReplay]:
    """Each by itself, in their order. A few statements for each."""
    in_force = {milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], now).items()}
    rules = list(
        AlertRule.objects.filter(
            feature=feature, environment=environment, kind=AlertRule.Kind.BURN_RATE
        ).order_by("-is_default", "pk")
    )
    return [
        _replayed(feature, environment, one, rules, in_force.get(one.milestone), now, days)
        for one in proposals
    ]


def _replayed(
    feature: Feature,
    environment: str,
    proposal: Proposal,
    rules: Sequence[AlertRule],
    in_force: BudgetInForce | None,
    now: datetime,
    days: int,
) -> ProposalReplay:
    watching = _watching(feature, environment, proposal.milestone, rules)
    proposed = _judges(watching, feature, proposal.milestone, _as_if_in_force(proposal, now))
    present = _judges(watching, feature, proposal.milestone, in_force)
    start = now - timedelta(days=days)
    counts = minute_counts(
        feature=feature,
        environment=environment,
        target=f"{MILESTONE}{proposal.milestone}",
        start=start - max(map(looks_back, (*proposed.values(), *present.values())), default=timedelta(0)),
        end=now,
        now=now,
    )
    rejudged = rejudged_minutes(
        feature=feature,
        environment=environment,
        target=f"{MILESTONE}{proposal.milestone}",
        counts=counts,
        limit_ms=proposal.budget_ms,
    )
    past = Past(as_judged(counts), counts.exact_from, counts.measured_from)
    minutes = replace(
        past.minutes,
        judged=rejudged.judged,
        good=rejudged.good,
        over=rejudged.judged - past.minutes.errors - rejudged.good,
    )
    first = (start - minutes.start) // timedelta(minutes=1)
    found = backtest_of(replace(past, minutes=minutes), proposed, start=start, now=now)
    before = None
    if in_force is not None:
        is_same = not rejudged.is_estimated and proposed == present
        before = found if is_same else backtest_of(past, present, start=start, now=now)
    return ProposalReplay(
        proposal=proposal,
        days=days,
        backtest=found,
        judged=int(rejudged.judged[first:].sum()),
        good=int(rejudged.good[first:].sum()),
        is_estimated=rejudged.is_estimated,
        in_force=in_force,
        as_judged=before,
        is_watched=bool(watching),
    )


def _watching(
    feature: Feature, environment: str, milestone: str, rules: Iterable[AlertRule]
) -> list[AlertRule]:
    """The enabled rules of the milestone, and the default one where the first evaluation is yet to make it."""
    if feature.is_archived:
        return []
    found = [rule for rule in rules if rule.milestone == milestone]
    if environment == DEFAULT_ENVIRONMENT and not any(rule.is_default for rule in found):
        kind = AlertRule.Kind.BURN_RATE
        found.append(AlertRule(feature=feature, environment=environment, kind=kind, milestone=milestone))
    return [rule for rule in found if rule.is_enabled]


def _judges(
    watching: Iterable[AlertRule], feature: Feature, milestone: str, budget: BudgetInForce | None
) -> dict[str, Rule]:
    """Their conditions under a latency budget. Those of several rules are told apart by numbers."""
    scene = Scene(feature, {milestone: budget} if budget else {})
    return {
        f"{n} {key}" if n else key: sight.judge
        for n, rule in enumerate(watching)
        for key, sight in sights_of(rule, scene)[1].items()
    }


def _as_if_in_force(proposal: Proposal, now: datetime) -> BudgetInForce:
    return BudgetInForce(
        milestone=proposal.milestone,
        budget_ms=proposal.budget_ms,
        objective=proposal.objective,
        window_days=proposal.window_days,
        version=0,
        effective_from=now,
        allocations={},
        unallocated_ms=0.0,
    )
