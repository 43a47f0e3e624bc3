"""What the rules watch and what they find: every condition of a feature, decided.

A condition is a tier of a milestone's burn-rate rule, a component under a feature's overrun rule, a threshold of an
error budget, … (alerts.sights). It is read and remembered here; its judge and alerts.rules decide it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from budgets import burn_rates
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Component, Feature, Milestone
from budgets.tiles import Counts
from budgets.windows import MILESTONE_WINDOWS, window_counts

from . import incidents
from .collecting import collected_later
from .models import AlertRule, Incident, RuleState, Severity
from .observations import Observations
from .rules import NOTHING, BurnRateRule, Decision, Previous, Reason, Status, WindowCounts, decide
from .sights import SLOW_KINDS, Scene, Sight, Withdrawn, about, sights_of

# The default rules watch it; other environments opt in by rules of their own.
DEFAULT_ENVIRONMENT = "production"

_OF_WHATEVER_IS_MEASURED = frozenset(
    {AlertRule.Kind.TIMEOUTS, AlertRule.Kind.NO_DATA, AlertRule.Kind.UNALLOCATED_COMPONENT}
)


# The windows of days are most of what there is to read, and a tier over one holds only where its short window burns.
_FAR_WINDOWS = ("1d", "3d")
_NEAR_WINDOWS = tuple(name for name in MILESTONE_WINDOWS if name not in _FAR_WINDOWS)


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
        """As incidents tell it: "burn_rate 1h/5m", "component_overrun tools", "slow first token p95"."""
        return f"{self.rule.kind if self.rule.is_default else self.rule.name} {self.key}"

    @property
    def milestone(self) -> str | None:
        """The milestone that it is about; None where it is about a component."""
        return about(self.rule, self.key)[0]

    @property
    def component(self) -> str | None:
        return about(self.rule, self.key)[1]

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

    def about(self, milestone: str | None = None, component: str | None = None) -> list[Condition]:
        """The conditions of a milestone, or of a component by its name."""
        return [one for one in self.conditions if (one.milestone, one.component) == (milestone, component)]

    @property
    def components(self) -> list[str]:
        """Those that a condition is about."""
        return list(dict.fromkeys(one.component for one in self.conditions if one.component is not None))

    def milestone_of(self, component: str) -> str | None:
        """The milestone under which a component is allocated now."""
        found = (milestone for milestone, budget in self.budgets.items() if component in budget.allocations)
        return next(found, None)

    def milestones_of(self, component: str) -> list[str]:
        """The milestones whose latency budget holds its allocation, its own first.

        The latency budget of an earlier milestone is the first block of a later one's. What has no allocation
        may be in the way of any of them.
        """
        own = self.milestone_of(component) or Milestone.values[0]
        return Milestone.values[Milestone.values.index(own) :]


# Half of the time of a look at a thousand features would go into looking for garbage among what it has just made.
@collected_later()
def look(feature_ids: Collection[int] | None, now: datetime, *, with_slow: bool = True) -> list[Watch]:
    """Every condition of these features, decided; the number of statements does not grow with their number.

    Without the slow kinds (sights.SLOW_KINDS), theirs stand as they were decided last.
    """
    found = Feature.objects.all() if feature_ids is None else Feature.objects.filter(pk__in=feature_ids)
    features = {feature.pk: feature for feature in found.select_related("team").order_by("pk")}
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

    declared = _declared_components(rules)
    for environment in sorted({rule.environment for rule in rules}):
        counts = window_counts(
            active_ids if feature_ids is not None else None,
            environment=environment,
            now=now,
            windows=_NEAR_WINDOWS,
        )
        targets = _targets(counts, rules)
        watched = [
            _Watched(
                rule,
                *sights_of(
                    rule,
                    Scene(
                        features[rule.feature_id],
                        budgets.get(rule.feature_id, {}),
                        targets.get(rule.feature_id, ()),
                        declared.get(rule.feature_id, ()),
                    ),
                ),
                states[rule.pk],
                is_carried=rule.kind in SLOW_KINDS and not with_slow,
            )
            for rule in rules
            if rule.environment == environment
        ]
        if far := {one.rule.feature_id for one in watched if one.looks_far(counts)}:
            further = window_counts(far, environment=environment, now=now, windows=_FAR_WINDOWS)
            for target, by_window in further.items():
                # One that was first measured in between is not there yet.
                counts.setdefault(target, {}).update(by_window)
        asked = [
            (one.rule.feature_id, sight)
            for one in watched
            if not one.is_carried
            for sight in one.sights.values()
        ]
        observations = Observations(asked, counts, environment=environment, now=now)
        for one in watched:
            watch(one.rule.feature_id, environment).conditions += one.conditions(counts, observations, now)
    # Also where the rule itself is gone and its states with it.
    unresolved = Incident.objects.unresolved().filter(feature__in=features)
    for feature_id, environment in unresolved.order_by().values_list("feature_id", "environment").distinct():
        watch(feature_id, environment).has_incident = True
    return list(watches.values())


def _targets(
    counts: Mapping[tuple[int, str], Mapping[str, Counts]], rules: Collection[AlertRule]
) -> dict[int, list[str]]:
    """What was ever measured of each feature that has a rule about whatever that is."""
    wanted = {rule.feature_id for rule in rules if rule.kind in _OF_WHATEVER_IS_MEASURED}
    if not wanted:
        return {}
    targets: dict[int, list[str]] = defaultdict(list)
    for feature_id, target in counts:
        if feature_id in wanted:
            targets[feature_id].append(target)
    return {feature_id: sorted(found) for feature_id, found in targets.items()}


def _declared_components(rules: Collection[AlertRule]) -> dict[int, set[str]]:
    """The declared components of the features of which all series are watched for silence."""
    wanted = {rule.feature_id for rule in rules if rule.kind == AlertRule.Kind.NO_DATA}
    declared: dict[int, set[str]] = defaultdict(set)
    if wanted:
        found = Component.objects.filter(feature__in=wanted, state=Component.State.DECLARED)
        for feature_id, name in found.values_list("feature_id", "name"):
            declared[feature_id].add(name)
    return declared


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


@dataclass(frozen=True, slots=True)
class _Watched:
    """One rule: what it watches, why it watches nothing else, and the states before."""

    rule: AlertRule
    withdrawn: Withdrawn
    sights: Mapping[str, Sight]
    states: Mapping[str, RuleState]
    is_carried: bool

    def looks_far(self, counts: Mapping[tuple[int, str], Mapping[str, Counts]]) -> bool:
        """Whether a tier over days is active, or burns over its short window."""
        return any(
            isinstance(judge := sight.judge, BurnRateRule)
            and judge.tier.long in _FAR_WINDOWS
            and (
                _is_active(self.states.get(key))
                or judge.may_hold(
                    cast(
                        "WindowCounts",
                        counts.get((self.rule.feature_id, sight.target), {}).get(judge.tier.short, NOTHING),
                    )
                )
            )
            for key, sight in self.sights.items()
        )

    def conditions(
        self,
        counts: Mapping[tuple[int, str], Mapping[str, Counts]],
        observations: Observations,
        now: datetime,
    ) -> list[Condition]:
        """The conditions of the rule, decided: those that it has now, then those that it had."""
        found = []
        for key, sight in self.sights.items():
            before = self.states.get(key)
            if self.is_carried:
                if before is not None:
                    found.append(Condition(self.rule, key, before, _carried(before), None, now))
                continue
            if before is None and (self.rule.feature_id, sight.target) not in counts:
                continue  # nothing was ever measured
            observation = observations.of(self.rule.feature_id, sight)
            decision = decide(sight.judge, observation, _previous(before, now), now)
            found.append(Condition(self.rule, key, before, decision, None, now))
        found += [
            Condition(self.rule, key, before, None, self.withdrawn, now)
            for key, before in self.states.items()
            if key not in self.sights
        ]
        return found


def _is_active(before: RuleState | None) -> bool:
    return before is not None and before.status != RuleState.Status.INACTIVE


def _carried(before: RuleState) -> Decision | None:
    """What was decided last, again; None while inactive, of which the state keeps no decision."""
    if before.status == RuleState.Status.INACTIVE:
        return None
    previous = _previous(before, before.since)
    return Decision(
        status=previous.status,
        since=previous.since,
        reason=Reason(before.reason),
        severity=previous.severity,
        burn_rate=None,
        evidence=before.evidence,
        no_data_since=previous.no_data_since,
    )


def _previous(before: RuleState | None, now: datetime) -> Previous:
    if before is None:
        return Previous(Status.INACTIVE, now)
    return Previous(
        Status(before.status),
        before.since,
        burn_rates.Severity(before.severity) if before.severity else None,
        before.no_data_since,
        before.evidence,
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
