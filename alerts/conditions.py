"""What the rules watch and what they find: every condition of a feature, decided.

A condition is a tier of a milestone's burn-rate rule, or a component under a feature's overrun rule. It is
read and remembered here; the pure alerts.rules decides it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from django.conf import settings

from budgets import burn_rates
from budgets.burn_rates import BURN_RATE_WINDOWS
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Feature, Milestone
from budgets.tiles import Counts
from budgets.windows import LAST_FULL_MINUTE, window_counts

from . import incidents
from .models import AlertRule, Incident, RuleState, Severity
from .rules import (
    NOTHING,
    ComponentOverrunRule,
    Decision,
    Observation,
    Previous,
    Reason,
    Rule,
    Status,
    WindowCounts,
    decide,
    milestone_rules,
)

# The default rules watch it; other environments opt in by rules of their own.
DEFAULT_ENVIRONMENT = "production"

_NO_COUNTS: Mapping[str, WindowCounts] = dict.fromkeys(BURN_RATE_WINDOWS, NOTHING)


class Withdrawn(StrEnum):
    """Why a condition is no longer watched, whatever was measured."""

    FEATURE_ARCHIVED = "feature_archived"
    MILESTONE_RETIRED = "milestone_retired"
    ALLOCATION_REMOVED = "allocation_removed"
    RULE_DISABLED = "rule_disabled"
    RULE_REMOVED = "rule_removed"


@dataclass(slots=True)
class Condition:
    """One condition: the state before, and what was decided now.

    `withdrawn` stands in for a decision where there is nothing to watch any more.
    """

    rule: AlertRule
    key: str
    before: RuleState | None
    decision: Decision | None
    withdrawn: Withdrawn | None
    now: datetime

    @property
    def name(self) -> str:
        """As incidents tell it: "burn_rate 1h/5m", "component_overrun tools", "slow first token ticket"."""
        return f"{self.rule.kind if self.rule.is_default else self.rule.name} {self.key}"

    @property
    def status(self) -> Status:
        return self.decision.status if self.decision else Status.INACTIVE

    @property
    def is_firing(self) -> bool:
        return self.status == Status.FIRING

    @property
    def is_active(self) -> bool:
        """What an incident stays open for."""
        return self.decision is not None and self.decision.is_active

    @property
    def severity(self) -> str:
        severity = self.decision.severity if self.decision else None
        return str(severity or Severity.TICKET)

    @property
    def active_since(self) -> datetime | None:
        if self.status == Status.INACTIVE:
            return None
        return (self.before.active_since if self.before else None) or self.now

    @property
    def ended_by(self) -> str | None:
        """Why it ended just now; None where it did not."""
        was_active = self.before is not None and self.before.status in (Status.FIRING, Status.RECOVERING)
        if not was_active or self.is_active:
            return None
        if self.withdrawn:
            return str(self.withdrawn)
        is_silent = self.decision is not None and self.decision.reason == Reason.NO_DATA_TIMEOUT
        return str(Reason.NO_DATA_TIMEOUT) if is_silent else incidents.RECOVERED

    def state(self) -> RuleState | None:
        """The state to be written; None where the one that is stored says the same.

        What was never active has no row, and while a condition is inactive its row keeps the reason that
        ended it: a sweep over thousands of quiet conditions writes nothing.
        """
        was_inactive = self.before is None or self.before.status == Status.INACTIVE
        if was_inactive and self.status == Status.INACTIVE:
            return None
        decision = self.decision
        state = RuleState(
            rule=self.rule,
            key=self.key,
            status=str(self.status),
            since=decision.since if decision else self.now,
            active_since=self.active_since,
            severity=str(decision.severity) if decision and decision.severity else None,
            reason=str(self.withdrawn or (decision.reason if decision else "")),
            no_data_since=decision.no_data_since if decision else None,
            evidence=decision.evidence if decision else {},
            evaluated_at=self.now,
        )
        if self.before and all(getattr(state, name) == getattr(self.before, name) for name in _COMPARED):
            return None
        return state


_COMPARED = ("status", "since", "active_since", "severity", "reason", "no_data_since", "evidence")


@dataclass(slots=True)
class Watch:
    """A feature in one environment: its latency budgets in force, its conditions, and whether it has
    an incident that is not resolved."""

    feature: Feature
    environment: str
    budgets: dict[str, BudgetInForce]
    conditions: list[Condition] = field(default_factory=list)
    has_incident: bool = False

    @property
    def is_busy(self) -> bool:
        return self.has_incident or any(
            condition.status != Status.INACTIVE or condition.state() is not None
            for condition in self.conditions
        )

    def tiers(self, milestone: str) -> list[Condition]:
        """Most urgent first."""
        return [condition for condition in self.conditions if condition.rule.milestone == milestone]

    def overruns(self) -> dict[str, Condition]:
        """By the component's name."""
        return {
            condition.key: condition
            for condition in self.conditions
            if condition.rule.kind == AlertRule.Kind.COMPONENT_OVERRUN
        }

    def milestone_of(self, component: str) -> str | None:
        """The milestone under which a component is allocated now."""
        found = (milestone for milestone, budget in self.budgets.items() if component in budget.allocations)
        return next(found, None)

    def milestones_of(self, component: str) -> list[str]:
        """The milestones whose latency budget holds its allocation, its own first.

        The latency budget of an earlier milestone is the first block of a later one's.
        """
        own = self.milestone_of(component)
        return Milestone.values[Milestone.values.index(own) :] if own else []


def look(feature_ids: Collection[int] | None, now: datetime) -> list[Watch]:
    """Every condition of these features, decided; the number of statements does not grow with their number."""
    found = Feature.objects.all() if feature_ids is None else Feature.objects.filter(pk__in=feature_ids)
    features = {feature.pk: feature for feature in found.order_by("pk")}
    active_ids = [pk for pk, feature in features.items() if not feature.is_archived]
    budgets: dict[int, dict[str, BudgetInForce]] = defaultdict(dict)
    for (feature_id, milestone), budget in budgets_in_force(active_ids, now).items():
        budgets[feature_id][milestone] = budget
    rules = _rules(features, budgets, now)
    states: dict[int, dict[str, RuleState]] = defaultdict(dict)
    for state in RuleState.objects.filter(rule__feature__in=features):
        states[state.rule_id][state.key] = state

    watches: dict[tuple[int, str], Watch] = {}

    def watch(feature_id: int, environment: str) -> Watch:
        key = (feature_id, environment)
        if key not in watches:
            watches[key] = Watch(features[feature_id], environment, budgets.get(feature_id, {}))
        return watches[key]

    counts = {
        environment: window_counts(
            active_ids if feature_ids is not None else None, environment=environment, now=now
        )
        for environment in sorted({rule.environment for rule in rules})
    }
    for rule in rules:
        watched = watch(rule.feature_id, rule.environment)
        watched.conditions += _conditions(rule, watched, states[rule.pk], counts[rule.environment], now)
    # Also where the rule itself is gone and its states with it.
    unresolved = Incident.objects.unresolved().filter(feature__in=features)
    for feature_id, environment in unresolved.order_by().values_list("feature_id", "environment").distinct():
        watch(feature_id, environment).has_incident = True
    return list(watches.values())


def _rules(
    features: Mapping[int, Feature], budgets: Mapping[int, Mapping[str, BudgetInForce]], now: datetime
) -> list[AlertRule]:
    """The features' rules, the default ones made where a latency budget is in force and they are missing."""
    found = AlertRule.objects.filter(feature__in=features).order_by("feature_id", "id")
    rules = list(found)
    kind = AlertRule.Kind
    existing = {
        (rule.feature_id, rule.environment, rule.kind, rule.milestone) for rule in rules if rule.is_default
    }
    wanted = [
        (feature_id, DEFAULT_ENVIRONMENT, *what)
        for feature_id, by_milestone in budgets.items()
        for what in [
            *((kind.BURN_RATE, milestone) for milestone in by_milestone),
            (kind.COMPONENT_OVERRUN, None),
        ]
    ]
    missing = [
        AlertRule(
            feature_id=feature_id,
            name=AlertRule.default_name(one, milestone, environment),
            environment=environment,
            kind=one,
            milestone=milestone,
            is_default=True,
            created_at=now,
        )
        for feature_id, environment, one, milestone in wanted
        if (feature_id, environment, one, milestone) not in existing
    ]
    if missing:
        # The unique key decides who made a rule that two evaluations find missing.
        AlertRule.objects.bulk_create(missing, ignore_conflicts=True)
        rules = list(found.all())
    return rules


def _conditions(
    rule: AlertRule,
    watched: Watch,
    states: Mapping[str, RuleState],
    counts: Mapping[tuple[int, str], Mapping[str, Counts]],
    now: datetime,
) -> Iterator[Condition]:
    """The conditions of one rule, decided: those that it has now, then those that it had."""
    withdrawn, judges = _judges(rule, watched)
    for key, (target, judge) in judges.items():
        before = states.get(key)
        observed = counts.get((rule.feature_id, target))
        if observed is None and before is None:
            continue  # nothing was ever measured
        decision = decide(judge, _observation(observed), _previous(before, now), now)
        yield Condition(rule, key, before, decision, None, now)
    for key, before in states.items():
        if key not in judges:
            yield Condition(rule, key, before, None, withdrawn, now)


def _judges(rule: AlertRule, watched: Watch) -> tuple[Withdrawn, dict[str, tuple[str, Rule]]]:
    """Key of a condition -> target of its counts and what decides it; and why it has no others."""
    if watched.feature.is_archived:
        return Withdrawn.FEATURE_ARCHIVED, {}
    if not rule.is_enabled:
        return Withdrawn.RULE_DISABLED, {}
    for_ = timedelta(seconds=rule.for_seconds)
    keep_seconds = rule.keep_firing_seconds
    keep_firing_for = timedelta(
        seconds=settings.ALERT_KEEP_FIRING_SECONDS if keep_seconds is None else keep_seconds
    )
    if rule.kind == AlertRule.Kind.BURN_RATE:
        budget = watched.budgets.get(rule.milestone or "")
        if budget is None:
            return Withdrawn.MILESTONE_RETIRED, {}
        tiers = milestone_rules(
            budget.objective, budget.window_days, for_=for_, keep_firing_for=keep_firing_for
        )
        return Withdrawn.RULE_REMOVED, {
            key: (f"milestone:{rule.milestone}", judge) for key, judge in tiers.items()
        }
    return Withdrawn.ALLOCATION_REMOVED, {
        component: (
            f"component:{component}",
            ComponentOverrunRule(objective=budget.objective, for_=for_, keep_firing_for=keep_firing_for),
        )
        for budget in watched.budgets.values()
        for component in budget.allocations
    }


def _observation(counts: Mapping[str, Counts] | None) -> Observation:
    # Counts has what rules read of WindowCounts; they are two classes so that rules stay free of a database.
    windows = cast("Mapping[str, WindowCounts]", counts or {})
    return Observation({**_NO_COUNTS, **windows}, windows.get(LAST_FULL_MINUTE, NOTHING))


def _previous(before: RuleState | None, now: datetime) -> Previous:
    if before is None:
        return Previous(Status.INACTIVE, now)
    return Previous(
        Status(before.status),
        before.since,
        burn_rates.Severity(before.severity) if before.severity else None,
        before.no_data_since,
    )


def remember(watches: Iterable[Watch]) -> int:
    """Writes the states that changed; the number of them."""
    states = [state for watch in watches for one in watch.conditions if (state := one.state()) is not None]
    RuleState.objects.bulk_create(
        states,
        update_conflicts=True,
        unique_fields=["rule", "key"],
        update_fields=["status", *_COMPARED[1:], "evaluated_at"],
    )
    return len(states)
