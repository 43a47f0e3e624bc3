"""Rules against what was measured: decides every condition and moves the incidents accordingly.

A condition is a tier of a milestone's burn-rate rule, or a component under a feature's overrun rule. It is
decided by the pure alerts.rules; here it is read, remembered and turned into steps of incidents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from django.conf import settings
from django.db import transaction

from budgets import burn_rates
from budgets.burn_rates import BURN_RATE_WINDOWS
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Component, Feature, Milestone
from budgets.status import ComponentStatus, FeatureStatus, get_overview
from budgets.tiles import Counts
from budgets.windows import LAST_FULL_MINUTE, window_counts

from . import incidents, locks
from .history import replay
from .models import AlertRule, Incident, RuleState, Severity
from .rules import (
    NOTHING,
    OUTAGE,
    OVERRUN_WINDOW,
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
from .summaries import cause_among, cause_of, component_summary, milestone_summary

# What a person resolved stays resolved for so long, though its conditions still hold.
HELD_FOR = timedelta(minutes=30)
# The default rules watch it; other environments opt in by rules of their own.
DEFAULT_ENVIRONMENT = "production"
# Features settled in one transaction: an outage of everything must neither hold thousands of rows nor keep
# the first message waiting for the last incident.
FEATURES_PER_TRANSACTION = 50

_NO_COUNTS: Mapping[str, WindowCounts] = dict.fromkeys(BURN_RATE_WINDOWS, NOTHING)


class Withdrawn(StrEnum):
    """Why a condition is no longer watched, whatever was measured."""

    FEATURE_ARCHIVED = "feature_archived"
    MILESTONE_RETIRED = "milestone_retired"
    ALLOCATION_REMOVED = "allocation_removed"
    RULE_DISABLED = "rule_disabled"
    RULE_REMOVED = "rule_removed"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation did: features looked at, conditions decided, states written, incidents' ids."""

    features: int = 0
    conditions: int = 0
    states_written: int = 0
    opened: tuple[int, ...] = ()
    raised: tuple[int, ...] = ()
    resolved: tuple[int, ...] = ()


def sweep(*, now: datetime) -> Evaluated | None:
    """Evaluates every feature; None where another sweep is at it."""
    with locks.try_hold(locks.EVALUATION_SWEEP) as is_ours:
        return evaluate(feature_ids=None, now=now) if is_ours else None


def evaluate(*, feature_ids: Collection[int] | None, now: datetime) -> Evaluated:
    """Decides every condition of these features (None: of all) and moves their incidents.

    1. Looks at all of them in a constant number of statements, and makes the default rules that are missing.
    2. Takes those on which anything is going on, which are few, a few dozen at a time, and locks them, so
       that the evaluation of a feature is serial.
    3. Decides these again, for another evaluation may have come first, and in the same transaction writes
       what changed: states, incidents, events and messages.
    """
    seen = _look(feature_ids, now)
    done = _Done(conditions=sum(len(watch.conditions) for watch in seen))
    busy = {watch.feature.pk for watch in seen if watch.is_busy}
    for chunk in _batched(sorted(busy), FEATURES_PER_TRANSACTION):
        with transaction.atomic():
            locks.lock_features(chunk)
            watches = _look(chunk, now)
            done.states_written += _remember(watches, now)
            _settle(watches, done, now)
    return Evaluated(
        features=len({watch.feature.pk for watch in seen}),
        conditions=done.conditions,
        states_written=done.states_written,
        opened=tuple(done.opened),
        raised=tuple(done.raised),
        resolved=tuple(done.resolved),
    )


@dataclass(slots=True)
class _Done:
    conditions: int = 0
    states_written: int = 0
    opened: list[int] = field(default_factory=list)
    raised: list[int] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)


# Looking: every condition of a feature in one environment, decided


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
        """As incidents tell it: "burn_rate 1h/5m", "component_overrun tools"."""
        return f"{self.rule.kind} {self.key}"

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


def _look(feature_ids: Collection[int] | None, now: datetime) -> list[Watch]:
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
    existing = {(rule.feature_id, rule.environment, rule.kind, rule.milestone) for rule in rules}
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
            feature_id=feature_id, environment=environment, kind=one, milestone=milestone, created_at=now
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


def _remember(watches: Iterable[Watch], now: datetime) -> int:
    """Writes the states that changed; the number of them."""
    states = [state for watch in watches for one in watch.conditions if (state := one.state()) is not None]
    RuleState.objects.bulk_create(
        states,
        update_conflicts=True,
        unique_fields=["rule", "key"],
        update_fields=["status", *_COMPARED[1:], "evaluated_at"],
    )
    return len(states)


# Settling: what the decisions mean for incidents


def _settle(watches: Collection[Watch], done: _Done, now: datetime) -> None:
    """Opens, raises, feeds, merges and resolves the incidents of these features."""
    features = {watch.feature.pk for watch in watches}
    unresolved: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in (
        Incident.objects.unresolved().filter(feature__in=features).locked().prefetch_related("events")
    ):
        unresolved[incident.feature_id, incident.environment].append(incident)
    by_hand: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in Incident.objects.resolved_by_hand_since(now - HELD_FOR).filter(feature__in=features):
        by_hand[incident.feature_id, incident.environment].append(incident)
    statuses = _Statuses(watches, now)
    for watch in watches:
        key = (watch.feature.pk, watch.environment)
        _Settlement(watch, unresolved[key], by_hand[key], statuses, done, now).settle()


class _Statuses:
    """What the features on which something fires look like, read for all of them at the first question."""

    def __init__(self, watches: Collection[Watch], now: datetime) -> None:
        self._watches, self._now = watches, now
        self._read: dict[tuple[str, str], dict[int, dict[str, FeatureStatus]]] = {}

    def of(self, watch: Watch, milestone: str, window: str) -> FeatureStatus:
        key = (watch.environment, window)
        if key not in self._read:
            features = [
                one.feature
                for one in self._watches
                if one.environment == watch.environment and any(c.is_firing for c in one.conditions)
            ]
            self._read[key] = get_overview(
                features, environment=watch.environment, now=self._now, window=window
            )
        return self._read[key][watch.feature.pk][milestone]


@dataclass(slots=True)
class _Settlement:
    """The incidents of one feature in one environment, moved to where its conditions put them."""

    watch: Watch
    unresolved: list[Incident]
    by_hand: list[Incident]
    statuses: _Statuses
    done: _Done
    now: datetime

    def settle(self) -> None:
        """Milestones first: one that pages takes the overruns of its components."""
        for milestone in Milestone.values:
            self._settle_milestone(milestone)
        overruns = self.watch.overruns()
        names = [one.component.name for one in self.unresolved if one.component]
        for name in dict.fromkeys([*overruns, *names]):
            self._settle_component(name, overruns.get(name))

    # Milestones

    def _settle_milestone(self, milestone: str) -> None:
        tiers = self.watch.tiers(milestone)
        incident = self._incident(milestone=milestone)
        worst = min(filter(lambda one: one.is_firing, tiers), key=_urgency, default=None)
        if incident is None:
            if worst is not None and not self._is_held(tiers, worst.severity, milestone=milestone):
                self._open_milestone(milestone, worst)
            return
        if not any(one.is_active for one in tiers):
            self._resolve(incident, tiers)
            return
        if worst is not None and worst.severity == Severity.PAGE and incident.severity != Severity.PAGE:
            finding = self._burning(milestone, worst, incident.opened_at)
            incidents.raise_severity(incident=incident, finding=finding, now=self.now)
            self.done.raised.append(incident.pk)
        self._feed(incident, milestone, worst)

    def _open_milestone(self, milestone: str, worst: Condition) -> None:
        incident = incidents.open_incident(
            target=incidents.Target(self.watch.feature, self.watch.environment, milestone=milestone),
            finding=self._burning(milestone, worst, self.now),
            evidence=self._evidence(milestone, worst.severity),
            now=self.now,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    def _feed(self, incident: Incident, milestone: str, worst: Condition | None) -> None:
        """Notes the conditions that joined the incident or left it; a component that joins may be the cause."""
        recorded = replay(incident.events.all()).evidence
        current = self._evidence(milestone, incident.severity)
        joined, left = current - recorded, recorded - current
        if not joined and not left:
            return
        incidents.change_evidence(incident=incident, joined=joined, left=left, now=self.now)
        has_new_component = any(one.name in joined for one in self.watch.overruns().values())
        if worst is not None and has_new_component:
            finding = self._burning(milestone, worst, incident.opened_at)
            known = incident.cause["component"] if incident.cause else None
            if finding.cause is not None and finding.cause["component"] != known:
                incidents.change_cause(
                    incident=incident, cause=finding.cause, summary=finding.summary, now=self.now
                )

    def _evidence(self, milestone: str, severity: str) -> set[str]:
        """The names of the conditions that hold: the milestone's, and under a page those of its components."""
        held = [one for one in self.watch.tiers(milestone) if one.is_active]
        if severity == Severity.PAGE:
            held += [
                one
                for name, one in self.watch.overruns().items()
                if one.is_active and self.watch.milestone_of(name) == milestone
            ]
        return {one.name for one in held}

    def _burning(self, milestone: str, tier: Condition, since: datetime) -> incidents.Finding:
        assert tier.decision is not None
        status = self.statuses.of(self.watch, milestone, tier.decision.evidence["long"]["window"])
        cause = cause_among(status.components)
        return incidents.Finding(
            severity=tier.severity,
            rule=tier.name,
            reason=str(tier.decision.reason),
            summary=milestone_summary(
                feature_name=self.watch.feature.name,
                status=status,
                decision=tier.decision,
                cause=cause,
                since=since,
            ),
            cause=cause,
            burn_rate=tier.decision.burn_rate,
        )

    # Components

    def _settle_component(self, name: str, overrun: Condition | None) -> None:
        incident = self._incident(component=name)
        milestone = self.watch.milestone_of(name)
        page = self._incident(milestone=milestone) if milestone else None
        if page is not None and page.severity == Severity.PAGE:
            if incident is not None:
                incidents.merge(incident=incident, into=page, now=self.now)
                self.unresolved.remove(incident)
        elif incident is None:
            if overrun is not None and overrun.is_firing and milestone is not None:
                tiers = self.watch.tiers(milestone)
                is_held = self._is_held([overrun], Severity.TICKET, component=name)
                if not is_held and not self._is_held(tiers, Severity.PAGE, milestone=milestone):
                    self._open_component(name, milestone, overrun)
        elif overrun is None or not overrun.is_active:
            self._resolve(incident, [overrun] if overrun else [])

    def _open_component(self, name: str, milestone: str, overrun: Condition) -> None:
        assert overrun.decision is not None
        feature = self.watch.feature
        status = self.statuses.of(self.watch, milestone, OVERRUN_WINDOW)
        observed = _find(status.components, name)
        incident = incidents.open_incident(
            target=incidents.Target(
                feature, self.watch.environment, component=Component.objects.get(feature=feature, name=name)
            ),
            finding=incidents.Finding(
                severity=overrun.severity,
                rule=overrun.name,
                reason=str(overrun.decision.reason),
                summary=component_summary(
                    feature_name=feature.name, component=observed, decision=overrun.decision, since=self.now
                ),
                cause=cause_of(observed),
                burn_rate=None,
            ),
            evidence=[overrun.name],
            now=self.now,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    # Both

    def _incident(self, *, milestone: str | None = None, component: str | None = None) -> Incident | None:
        found = (one for one in self.unresolved if _is_about(one, milestone, component))
        return next(found, None)

    def _is_held(
        self,
        conditions: Iterable[Condition],
        severity: str,
        *,
        milestone: str | None = None,
        component: str | None = None,
    ) -> bool:
        """Whether a person resolved this lately and one of its conditions has not been inactive since.

        Something worse than what they resolved is news all the same.
        """
        since = [one.active_since for one in conditions if one.active_since is not None]
        return any(
            at <= incident.resolved_at
            for incident in self.by_hand
            if _is_about(incident, milestone, component)
            and incident.resolved_at is not None
            and (severity != Severity.PAGE or incident.severity == Severity.PAGE)
            for at in since
        )

    def _resolve(self, incident: Incident, conditions: Collection[Condition]) -> None:
        """Ends an incident of which nothing holds any more, for what ended last.

        That a rule was withdrawn, or that there is silence, outweighs a recovery at the same moment.
        """
        reasons = {one.ended_by for one in conditions if one.ended_by}
        if not conditions:
            reason = str(Withdrawn.RULE_REMOVED)
        else:
            reason = min(reasons, key=_weight, default=incidents.RECOVERED)
        incidents.resolve_by_rules(incident=incident, reason=reason, now=self.now)
        self.unresolved.remove(incident)
        self.done.resolved.append(incident.pk)


def _urgency(condition: Condition) -> tuple[bool, bool]:
    """Sorts pages first, an outage before the tiers; tiers stand in their own order."""
    return condition.severity != Severity.PAGE, condition.key != OUTAGE


def _weight(reason: str) -> int:
    return [*Withdrawn, Reason.NO_DATA_TIMEOUT, incidents.RECOVERED].index(reason)


def _is_about(incident: Incident, milestone: str | None, component: str | None) -> bool:
    name = incident.component.name if incident.component else None
    return (incident.milestone, name) == (milestone, component)


def _find(components: Iterable[ComponentStatus], name: str) -> ComponentStatus:
    return next(one for one in components if one.component == name)


def _batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (values[start : start + size] for start in range(0, len(values), size))
