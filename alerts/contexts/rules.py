"""What the pages of a feature's alert rules show: where each stands, and what one would have done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.urls import reverse

from alerts.backtests import Backtest, RuleStudy, Study
from alerts.contexts.incidents import IncidentLine, lines_of
from alerts.episodes import Episode
from alerts.evidence import condition_words, evidence_words, reason_words
from alerts.models import AlertRule, Incident, RuleState
from alerts.rule_documents import differs_from_its_default
from alerts.rule_names import rule_behind, title, usual_severity, watches
from alerts.sights import Scene, sights_of
from budgets import formats
from budgets.limits import budgets_in_force
from budgets.models import Component, Feature, Series

EPISODES_SHOWN: Final = 20
# The worst first.
_STATUSES: Final = [
    RuleState.Status.FIRING,
    RuleState.Status.RECOVERING,
    RuleState.Status.PENDING,
    RuleState.Status.INACTIVE,
]
_WORDS: Final = {"pending": "Pending", "firing": "", "recovering": "", "inactive": ""}


@dataclass(frozen=True)
class ConditionLine:
    """Where one condition of a rule stands. One that never held has no `since`."""

    name: str
    status: str
    word: str
    since: datetime | None
    severity: str
    reason: str
    evidence: str
    no_data_since: datetime | None


@dataclass(frozen=True)
class RuleLine:
    rule: AlertRule
    title: str
    watches: str
    severity: str
    status: str
    word: str
    conditions: list[ConditionLine]
    """The worst first."""
    note: str
    """Why it watches nothing now."""
    last: IncidentLine | None
    """The latest incident that it opened or raised."""
    url: str

    @property
    def active(self) -> list[ConditionLine]:
        return [one for one in self.conditions if one.status != RuleState.Status.INACTIVE]

    @property
    def quiet(self) -> str:
        """The names of those that do not hold."""
        return ", ".join(
            formats.name(one.name) for one in self.conditions if one.status == RuleState.Status.INACTIVE
        )

    @property
    def is_changed(self) -> bool:
        """A default rule that somebody has changed."""
        return self.rule.is_default and differs_from_its_default(self.rule)


def rule_lines(feature: Feature, rules: Sequence[AlertRule], *, now: datetime) -> list[RuleLine]:
    """The rules with where they stand, in their order; as many statements for one as for many."""
    scenes = _scenes(feature, {rule.environment for rule in rules}, now)
    states: dict[int, list[RuleState]] = defaultdict(list)
    for state in RuleState.objects.filter(rule__in=rules).order_by("pk"):
        states[state.rule_id].append(state)
    latest = _latest(feature, rules)
    lines = dict(zip(latest, lines_of(latest.values(), now), strict=True))
    return [_line(rule, scenes[rule.environment], states[rule.pk], lines.get(rule.pk)) for rule in rules]


def rules_of(feature: Feature) -> list[AlertRule]:
    """The feature's rules, default ones first."""
    rules = list(AlertRule.objects.filter(feature=feature).order_by("-is_default", "environment", "name"))
    for rule in rules:
        rule.feature = feature
    return rules


def _line(rule: AlertRule, scene: Scene, states: list[RuleState], last: IncidentLine | None) -> RuleLine:
    withdrawn, sights = sights_of(rule, scene)
    by_key = {state.key: state for state in states}
    watched = [
        *sights,
        *(key for key, one in by_key.items() if one.status != "inactive" and key not in sights),
    ]
    conditions = [_condition(rule, key, by_key.get(key)) for key in watched]
    conditions.sort(key=lambda one: _STATUSES.index(RuleState.Status(one.status)))
    status = conditions[0].status if conditions else "inactive"
    severity = f"always a {rule.severity}" if rule.severity else usual_severity(rule.kind)
    return RuleLine(
        rule=rule,
        title=title(rule),
        watches=watches(rule),
        severity=severity,
        status=status if rule.is_enabled else "disabled",
        word=_WORDS[status] if rule.is_enabled else "",
        conditions=conditions,
        note="" if sights else reason_words(str(withdrawn)),
        last=last,
        url=reverse("feature-rule", args=[rule.feature.slug, rule.pk]),
    )


def _condition(rule: AlertRule, key: str, state: RuleState | None) -> ConditionLine:
    name = condition_words(key, rule.kind)
    if state is None:
        return ConditionLine(name, "inactive", "", None, "", "", "", None)
    return ConditionLine(
        name=name,
        status=state.status,
        word=_WORDS[state.status],
        since=state.since,
        severity=state.severity or "",
        reason=reason_words(state.reason),
        evidence=evidence_words(state.evidence),
        no_data_since=state.no_data_since,
    )


def _scenes(feature: Feature, environments: Iterable[str], now: datetime) -> dict[str, Scene]:
    """By the environment, what there is to watch of the feature."""
    budgets = {milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], now).items()}
    found = Series.objects.filter(feature=feature)
    targets: dict[str, set[str]] = defaultdict(set)
    for environment, milestone, component in found.values_list(
        "environment", "milestone", "component__name"
    ).distinct():
        targets[environment].add(f"milestone:{milestone}" if component is None else f"component:{component}")
    declared = set(
        Component.objects.filter(feature=feature, state=Component.State.DECLARED).values_list(
            "name", flat=True
        )
    )
    return {one: Scene(feature, budgets, sorted(targets[one]), declared) for one in environments}


def _latest(feature: Feature, rules: Sequence[AlertRule]) -> dict[int, Incident]:
    """By the rule's id, the latest incident that it opened or raised."""
    target = ("rule", "environment", "milestone")
    found = (
        Incident.objects.filter(feature=feature)
        .select_related("component")
        .order_by(*target, "-opened_at")
        .distinct(*target)
    )
    latest: dict[int, Incident] = {}
    for incident in sorted(found, key=lambda one: one.opened_at):
        incident.feature = feature
        rule = rule_behind(incident, rules)
        if rule is not None:
            latest[rule.pk] = incident
    return latest


# What a rule would have done


@dataclass(frozen=True)
class EpisodeLine:
    """What would have been one incident, reopened or not; it fired so many `times`."""

    start: datetime
    end: datetime | None
    severity: str
    conditions: str
    times: int


@dataclass(frozen=True)
class TargetStudy:
    """What a rule says of one target, and would have done about it."""

    title: str
    sentences: Sequence[str]
    """What it fires on, a sentence for each condition."""
    setting: str
    reactions: Sequence[str]
    """How soon at how much that is bad, at that setting."""
    summary: str
    incidents: list[EpisodeLine]
    """The latest first."""
    more: int
    """How many are not listed."""
    notes: Sequence[str]
    is_open: bool


@dataclass(frozen=True)
class StudyPanel:
    note: str
    targets: list[TargetStudy]


def study_panel(study: RuleStudy, kind: str, *, days: int) -> StudyPanel:
    """A study as the page shows it; targets that would have fired stand open, and one alone does."""
    targets = [
        _target_study(target, found, kind, days=days, is_alone=len(study.by_target) == 1)
        for target, found in study.by_target.items()
    ]
    return StudyPanel(study.note, targets)


def _target_study(target: str, study: Study, kind: str, *, days: int, is_alone: bool) -> TargetStudy:
    part, name = target.split(":", 1)
    found = study.backtest
    return TargetStudy(
        title=name.replace("_", " ").capitalize() if part == "milestone" else name,
        sentences=[one.sentence for one in study.explanation.conditions],
        # Where nothing was measured the summary says it, and once is enough.
        setting="" if found.measured_from is None else study.explanation.setting,
        reactions=study.explanation.told,
        summary=_summary(study, days),
        incidents=[_episode(one, found, kind) for one in reversed(found.incidents[-EPISODES_SHOWN:])],
        more=max(0, len(found.incidents) - EPISODES_SHOWN),
        notes=() if found.measured_from is None else found.notes,
        is_open=is_alone or bool(found.incidents),
    )


def _summary(study: Study, days: int) -> str:
    found = study.backtest
    if found.measured_from is None:
        return f"Nothing was measured in the last {days} days."
    if not found.incidents:
        return f"In the last {days} days it would not have fired."
    counted = [_counted(found.pages, "page"), _counted(found.tickets, "ticket")]
    said = " and ".join(filter(None, counted))
    return f"In the last {days} days it would have opened {said}."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}" if number else ""


def _episode(one: Episode, found: Backtest, kind: str) -> EpisodeLine:
    return EpisodeLine(
        start=one.started_at,
        end=one.ended_at,
        severity=str(one.severity),
        conditions=", ".join(condition_words(key, kind) for key in one.keys),
        times=sum(
            one.started_at <= firing.start and (one.ended_at is None or firing.start < one.ended_at)
            for firing in found.firings
        ),
    )


def environments_of(rules: Iterable[AlertRule], feature: Feature) -> list[str]:
    """What a rule may watch by name: what was measured, and what rules name."""
    measured = Series.objects.filter(feature=feature).values_list("environment", flat=True).distinct()
    return sorted({*measured, "production", *(rule.environment for rule in rules)})
