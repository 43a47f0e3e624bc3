"""When rules would have fired in the last weeks, by what is kept of them: shown before a rule is saved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from budgets.burn_rates import Severity
from budgets.limits import budgets_in_force
from budgets.models import Component, Feature, Series

from .clauses import window_words
from .episodes import Episode, episodes, together
from .error_budget_rules import ErrorBudgetRule, ForecastRule
from .evidence import reason_words
from .explanations import Explanation, explain
from .latency_rules import ThresholdRule, TrendRule
from .lookbacks import looks_back
from .minutes import Minutes
from .models import AlertRule
from .pasts import Past, needs_minutes, past_of
from .replays import Transition, replay
from .rules import BurnRateRule, ComponentOverrunRule, OutageRule, Rule, Status
from .series_rules import NoDataRule, TimeoutsRule, UnallocatedComponentRule
from .sights import COMPONENT, MILESTONE, Scene, Withdrawn, sights_of

DAYS = 28
TRAFFIC_DAYS = 7
"""What the feature's traffic is taken from."""

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


# Of a rule that watched nothing before, these say it better than what ended it.
_NOTHING = {
    Withdrawn.COMPONENT_ALLOCATED: "every component that was measured has an allocation",
    Withdrawn.RULE_REMOVED: "nothing was measured yet",
}


@dataclass(frozen=True, slots=True)
class Firing:
    """One time at which a rule would have fired; `end` is None where it still would."""

    start: datetime
    end: datetime | None
    severity: Severity
    """The highest that it had."""
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Backtest:
    """What rules would have made of what was measured in [start, end)."""

    start: datetime
    end: datetime
    firings: tuple[Firing, ...]
    """By their starts."""
    incidents: tuple[Episode, ...]
    """What would have been told: firings of all rules together, reopened ones once."""
    measured_from: datetime | None
    """Since when anything was measured, as far back as was looked; None: nothing was."""
    exact_from: datetime
    """Before it only hours are kept."""
    requests_per_hour: float
    """The mean of the last days."""
    notes: tuple[str, ...]
    """How far this can be relied upon, for a person."""

    @property
    def pages(self) -> int:
        return sum(one.paged_at is not None for one in self.incidents)

    @property
    def tickets(self) -> int:
        return len(self.incidents) - self.pages


@dataclass(frozen=True, slots=True)
class Study:
    """All that a rule says of itself before it is saved."""

    explanation: Explanation
    backtest: Backtest


def study(
    *,
    feature: Feature,
    milestone: str | None = None,
    component: str | None = None,
    environment: str,
    rules: Mapping[str, Rule],
    now: datetime,
    days: int = DAYS,
) -> Study:
    """Explains the rules at the traffic that there is, and replays them over the last days."""
    found = backtest(
        feature=feature,
        milestone=milestone,
        component=component,
        environment=environment,
        rules=rules,
        now=now,
        days=days,
    )
    return Study(explain(rules, requests_per_hour=found.requests_per_hour), found)


@dataclass(frozen=True, slots=True)
class RuleStudy:
    """What an alert rule says of itself, by the targets that it watches: "milestone:first_token", "component:tools"."""

    by_target: Mapping[str, Study]
    note: str
    """Why there is nothing to say of it, for a person; else empty."""


def study_rule(*, rule: AlertRule, now: datetime, days: int = DAYS) -> RuleStudy:
    """Studies a rule that is sound and need not be saved, by the latency budgets that are in force now.

    A few statements for each target.
    """
    feature = rule.feature
    budgets = {milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], now).items()}
    series = Series.objects.filter(feature=feature, environment=rule.environment)
    targets = {
        f"{MILESTONE}{milestone}" if component is None else f"{COMPONENT}{component}"
        for milestone, component in series.values_list("milestone", "component__name").distinct()
    }
    declared = Component.objects.filter(feature=feature, state=Component.State.DECLARED)
    scene = Scene(feature, budgets, sorted(targets), set(declared.values_list("name", flat=True)))
    withdrawn, sights = sights_of(rule, scene)
    by_target: dict[str, dict[str, Rule]] = {}
    for key, sight in sights.items():
        by_target.setdefault(sight.target, {})[key] = sight.judge
    found = {}
    for target, rules in by_target.items():
        kind, name = target.split(":", 1)
        found[target] = study(
            feature=feature,
            milestone=name if kind == "milestone" else None,
            component=name if kind == "component" else None,
            environment=rule.environment,
            rules=rules,
            now=now,
            days=days,
        )
    note = ""
    if not sights:
        note = (
            f"There is nothing that it would watch now: {_NOTHING.get(withdrawn) or reason_words(withdrawn)}."
        )
    return RuleStudy(found, note)


def backtest(
    *,
    feature: Feature,
    milestone: str | None = None,
    component: str | None = None,
    environment: str,
    rules: Mapping[str, Rule],
    now: datetime,
    days: int = DAYS,
) -> Backtest:
    """When these rules of a milestone or a component, by their keys, would have fired.

    What was judged stays as it was judged: by the limits that were in force then, at the objective that the
    rules have. As many statements for one rule as for many.
    """
    if (milestone is None) == (component is None):
        raise ValueError("a backtest is of a milestone or of a component")
    start = now - timedelta(days=days)
    past = past_of(
        feature=feature,
        environment=environment,
        target=f"{MILESTONE}{milestone}" if component is None else f"{COMPONENT}{component}",
        rules=rules.values(),
        start=start,
        now=now,
    )
    found = backtest_of(past, rules, start=start, now=now)
    if past.measured_from is not None and any(isinstance(rule, _JUDGED) for rule in rules.values()):
        as_it_was = "What was judged stays as it was judged, by the latency budget that was in force then."
        found = replace(found, notes=(*found.notes, as_it_was))
    return found


def backtest_of(past: Past, rules: Mapping[str, Rule], *, start: datetime, now: datetime) -> Backtest:
    """When these rules, by their keys, would have fired from `start` on, by a past that reaches far enough back."""
    transitions = {
        key: list(replay(rule, past.shown_to(rule), since=past.replayed_from(rule, start)))
        for key, rule in rules.items()
    }
    firings = [firing for key, several in transitions.items() for firing in _firings(key, several)]
    return Backtest(
        start=start,
        end=now,
        firings=tuple(sorted(firings, key=lambda one: one.start)),
        incidents=tuple(episodes(together(transitions))),
        measured_from=past.measured_from,
        exact_from=past.exact_from,
        requests_per_hour=_requests_per_hour(past.minutes, past.measured_from, now),
        notes=tuple(dict.fromkeys(_notes(start, now, past, rules.values()))),
    )


def _firings(key: str, transitions: Iterable[Transition]) -> list[Firing]:
    found: list[Firing] = []
    for one in transitions:
        severity = one.decision.severity
        if not one.decision.is_active:
            if one.before in (Status.FIRING, Status.RECOVERING):
                last = found[-1]
                found[-1] = Firing(last.start, one.at, last.severity, key, last.reason)
        elif one.before in (Status.INACTIVE, Status.PENDING):
            found.append(Firing(one.at, None, severity or Severity.TICKET, key, str(one.decision.reason)))
        elif severity == Severity.PAGE and found[-1].severity != Severity.PAGE:
            last = found[-1]
            found[-1] = Firing(last.start, None, severity, key, str(one.decision.reason))
    return found


def _requests_per_hour(minutes: Minutes, measured_from: datetime | None, now: datetime) -> float:
    """The mean of the last days, or since anything was measured where that is less."""
    if measured_from is None:
        return 0.0
    since = max(now - timedelta(days=TRAFFIC_DAYS), min(measured_from, now - _HOUR), minutes.start)
    first = (since - minutes.start) // timedelta(minutes=1)
    return float(minutes.total[first:].sum()) / ((now - since) / _HOUR)


def _notes(start: datetime, now: datetime, past: Past, rules: Collection[Rule]) -> Iterable[str]:
    measured_from, exact_from = past.measured_from, past.exact_from
    if measured_from is None:
        yield f"Nothing was measured between {_day(start)} and {_day(now)}."
        return
    if measured_from > start:
        yield f"Nothing was measured before {_day(measured_from)}."
    for rule in rules:
        full_from = measured_from + looks_back(rule)
        if isinstance(rule, _LOOKS_BACK_DAYS) and full_from > start:
            length = looks_back(rule) // _DAY
            yield (
                f"It looks back {length} days. Until {_day(full_from)} it sees less, as it would have seen then."
                if full_from < now
                else f"It looks back {length} days and sees less so far, as it would have seen then."
            )
    if exact_from > max(start, measured_from):
        yield from (
            f"Before {_day(exact_from)} only hours are kept{said}." for said in map(_of_hours, rules) if said
        )


_JUDGED = BurnRateRule | OutageRule | ComponentOverrunRule | ErrorBudgetRule | ForecastRule
_LOOKS_BACK_DAYS = TrendRule | ErrorBudgetRule | ForecastRule


def _of_hours(rule: Rule) -> str:
    """What it means to the rule that only hours are kept."""
    match rule:
        case ThresholdRule() if needs_minutes(rule):
            return f", which have no percentile of {window_words(rule.window)}: nothing is replayed there"
        case ThresholdRule():
            return ": the percentile is known there as each hour ends"
        case NoDataRule():
            return ", which do not tell for how long nothing was measured: nothing is replayed there"
        case (
            BurnRateRule()
            | OutageRule()
            | ComponentOverrunRule()
            | TimeoutsRule()
            | UnallocatedComponentRule()
        ):
            return (
                ": what windows shorter than an hour held is estimated there, as if each hour had been even"
            )
    return ""


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
