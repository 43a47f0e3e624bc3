"""What a rule watches: its conditions by their keys, each with its target and the judge that decides it.

Nothing that was measured is read for it but which targets there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from django.conf import settings

from budgets import burn_rates
from budgets.limits import BudgetInForce
from budgets.models import Feature

from .error_budget_rules import HORIZON_HOURS, ErrorBudgetRule, ForecastRule
from .latency_rules import TREND_PAIRS, ThresholdRule, TrendRule
from .models import AlertRule
from .rule_parameters import DEFAULTS
from .rules import ComponentOverrunRule, Rule, milestone_rules
from .series_rules import NoDataRule, TimeoutsRule, UnallocatedComponentRule

Kind = AlertRule.Kind

SLOW_KINDS: Final = frozenset(
    {Kind.ERROR_BUDGET, Kind.TREND, Kind.FORECAST, Kind.NO_DATA, Kind.UNALLOCATED_COMPONENT}
)
"""They read hours or days, in which a second changes little: once a minute is enough."""

MILESTONE, COMPONENT = "milestone:", "component:"


class Withdrawn(StrEnum):
    """Why a condition is no longer watched, whatever was measured."""

    FEATURE_ARCHIVED = "feature_archived"
    MILESTONE_RETIRED = "milestone_retired"
    ALLOCATION_REMOVED = "allocation_removed"
    COMPONENT_ALLOCATED = "component_allocated"
    RULE_DISABLED = "rule_disabled"
    RULE_REMOVED = "rule_removed"


@dataclass(frozen=True, slots=True)
class Sight:
    """`target` is "milestone:first_token" or "component:<name>"."""

    target: str
    judge: Rule


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to watch of a feature in one environment: its latency budgets in force, the targets that were
    ever measured, and the names of the components that it declares now."""

    feature: Feature
    budgets: Mapping[str, BudgetInForce]
    targets: Collection[str] = ()
    declared: Collection[str] = ()

    @property
    def measured_components(self) -> list[str]:
        return [target.removeprefix(COMPONENT) for target in self.targets if target.startswith(COMPONENT)]

    @property
    def allocated(self) -> set[str]:
        return {name for budget in self.budgets.values() for name in budget.allocations}


def sights_of(rule: AlertRule, scene: Scene) -> tuple[Withdrawn, dict[str, Sight]]:
    """What the rule watches by the keys of its conditions, worst first; and why it watches nothing else."""
    if scene.feature.is_archived:
        return Withdrawn.FEATURE_ARCHIVED, {}
    if not rule.is_enabled:
        return Withdrawn.RULE_DISABLED, {}
    return _SIGHTS[rule.kind](rule, scene)


def about(rule: AlertRule, key: str) -> tuple[str | None, str | None]:
    """The milestone or the component that a condition is about, also where it is no longer watched."""
    if rule.milestone is not None:
        return str(rule.milestone), None
    if key.startswith(MILESTONE):
        return key.removeprefix(MILESTONE), None
    return None, rule.component or key


def parameters_of(rule: AlertRule) -> dict[str, Any]:
    """The rule's parameters, by default where it says nothing."""
    return {**DEFAULTS[rule.kind], **rule.parameters}


def keep_firing_seconds(rule: AlertRule) -> int:
    seconds = rule.keep_firing_seconds
    return int(settings.ALERT_KEEP_FIRING_SECONDS if seconds is None else seconds)


def _of_every_rule(rule: AlertRule) -> dict[str, Any]:
    return {
        "for_": timedelta(seconds=rule.for_seconds),
        "keep_firing_for": timedelta(seconds=keep_firing_seconds(rule)),
        "severity": burn_rates.Severity(rule.severity) if rule.severity else None,
    }


_Found = tuple[Withdrawn, dict[str, Sight]]


def _burn_rate(rule: AlertRule, scene: Scene) -> _Found:
    budget = scene.budgets.get(rule.milestone or "")
    if budget is None:
        return Withdrawn.MILESTONE_RETIRED, {}
    tiers = milestone_rules(budget.objective, budget.window_days, **_of_every_rule(rule))
    return Withdrawn.RULE_REMOVED, {
        key: Sight(f"{MILESTONE}{rule.milestone}", judge) for key, judge in tiers.items()
    }


def _component_overrun(rule: AlertRule, scene: Scene) -> _Found:
    given = _of_every_rule(rule)
    return Withdrawn.ALLOCATION_REMOVED, {
        name: Sight(f"{COMPONENT}{name}", ComponentOverrunRule(objective=budget.objective, **given))
        for budget in scene.budgets.values()
        for name in budget.allocations
        if rule.component in (None, name)
    }


def _timeouts(rule: AlertRule, scene: Scene) -> _Found:
    judge = TimeoutsRule(**parameters_of(rule), **_of_every_rule(rule))
    names = [rule.component] if rule.component else scene.measured_components
    return Withdrawn.RULE_REMOVED, {name: Sight(f"{COMPONENT}{name}", judge) for name in names}


def _error_budget(rule: AlertRule, scene: Scene) -> _Found:
    budget = scene.budgets.get(rule.milestone or "")
    if budget is None:
        return Withdrawn.MILESTONE_RETIRED, {}
    given = _of_every_rule(rule)
    return Withdrawn.RULE_REMOVED, {
        str(percent): Sight(
            f"{MILESTONE}{rule.milestone}",
            ErrorBudgetRule(
                objective=budget.objective,
                window_days=budget.window_days,
                remaining_percent=percent,
                **given,
            ),
        )
        for percent in sorted(parameters_of(rule)["remaining_percents"])
    }


def _forecast(rule: AlertRule, scene: Scene) -> _Found:
    budget = scene.budgets.get(rule.milestone or "")
    if budget is None:
        return Withdrawn.MILESTONE_RETIRED, {}
    judge = ForecastRule(objective=budget.objective, window_days=budget.window_days, **_of_every_rule(rule))
    return Withdrawn.RULE_REMOVED, {f"{HORIZON_HOURS}h": Sight(f"{MILESTONE}{rule.milestone}", judge)}


def _threshold(rule: AlertRule, scene: Scene) -> _Found:
    parameters = parameters_of(rule)
    judge = ThresholdRule(**parameters, **_of_every_rule(rule))
    return Withdrawn.RULE_REMOVED, {parameters["percentile"]: Sight(_named_target(rule), judge)}


def _trend(rule: AlertRule, scene: Scene) -> _Found:
    judge = TrendRule(**parameters_of(rule), **_of_every_rule(rule))
    return Withdrawn.RULE_REMOVED, {f"{TREND_PAIRS}h": Sight(_named_target(rule), judge)}


def _no_data(rule: AlertRule, scene: Scene) -> _Found:
    judge = NoDataRule(**parameters_of(rule), **_of_every_rule(rule))
    if rule.milestone or rule.component:
        targets = [_named_target(rule)]
    else:
        # A component that is declared no more is meant to fall silent, and one that never was came by itself.
        targets = [
            target
            for target in scene.targets
            if target.startswith(MILESTONE) or target.removeprefix(COMPONENT) in scene.declared
        ]
    return Withdrawn.RULE_REMOVED, {
        target.removeprefix(COMPONENT): Sight(target, judge) for target in targets
    }


def _unallocated_component(rule: AlertRule, scene: Scene) -> _Found:
    allocated = scene.allocated
    if not allocated:
        # Who allocates nothing has nothing that was forgotten.
        return Withdrawn.ALLOCATION_REMOVED, {}
    judge = UnallocatedComponentRule(**parameters_of(rule), **_of_every_rule(rule))
    return Withdrawn.COMPONENT_ALLOCATED, {
        name: Sight(f"{COMPONENT}{name}", judge)
        for name in scene.measured_components
        if name not in allocated
    }


def _named_target(rule: AlertRule) -> str:
    return f"{COMPONENT}{rule.component}" if rule.component else f"{MILESTONE}{rule.milestone}"


_SIGHTS: Final[Mapping[str, Callable[[AlertRule, Scene], _Found]]] = {
    Kind.BURN_RATE: _burn_rate,
    Kind.COMPONENT_OVERRUN: _component_overrun,
    Kind.TIMEOUTS: _timeouts,
    Kind.ERROR_BUDGET: _error_budget,
    Kind.THRESHOLD: _threshold,
    Kind.TREND: _trend,
    Kind.FORECAST: _forecast,
    Kind.NO_DATA: _no_data,
    Kind.UNALLOCATED_COMPONENT: _unallocated_component,
}
