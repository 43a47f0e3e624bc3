"""A feature's alert rules: saved, deleted, and as the document that changes nothing. Each change is written down.

A document is {"kind", "environment", "milestone" or "component", "severity", "enabled", "for_seconds",
"keep_firing_seconds", "parameters"}; all but the kind, and what the kind must be told, may be left out.
Parameters stand by themselves, so that the name of one can never be that of a field of every rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import transaction

from budgets import audit, doorbell
from budgets.errors import Refusal
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Component, Feature, Milestone, Team

from . import locks
from .conditions import DEFAULT_ENVIRONMENT
from .models import AlertRule, RuleState, Severity
from .sights import DEFAULTS, parameters_of

Kind = AlertRule.Kind

MAX_NAME_CHARACTERS: Final = 200
MAX_SECONDS: Final = 86_400
"""A day: what must hold for longer is a matter for a report."""

_MAX_DURATION_MS: Final = 7 * 86_400_000
_MINUTES_OF_A_DAY: Final = 1440

_ANSWERED: Final = frozenset({"feature", "name", "is_default"})
"""What an answer adds. It may come back and says nothing."""
_FIELDS: Final = (
    "kind",
    "environment",
    "milestone",
    "component",
    "severity",
    "enabled",
    "for_seconds",
    "keep_firing_seconds",
    "parameters",
)

_OF_A_MILESTONE = frozenset({Kind.BURN_RATE, Kind.ERROR_BUDGET, Kind.FORECAST})
_OF_COMPONENTS = frozenset({Kind.COMPONENT_OVERRUN, Kind.TIMEOUTS})
_OF_EITHER = frozenset({Kind.THRESHOLD, Kind.TREND})

Problems = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Saved:
    rule: AlertRule
    is_created: bool


def save_rule(
    *,
    team: Team,
    feature: str,
    name: str,
    document: Any,
    actor: str,
    now: datetime,
    is_new: bool | None = None,
) -> Saved:
    """Makes the feature's rule of this name what the document says.

    `feature` is the slug of one of the team's features. `is_new` says that there must be none of this name (True)
    or one (False). A default rule keeps its kind and what it watches. What a rule had found goes where it watches
    something else than before. Raises Refusal, and then nothing was saved.
    """
    found = feature_of(team, feature)
    with transaction.atomic():
        # An evaluation must not decide by half of a change, nor write the state of what is gone.
        locks.lock_features([found.pk])
        named = AlertRule.objects.filter(feature=found, name=name.strip())
        existing = named.first() if _is_name(name) else None
        values = _read(document, found, name, existing, now)
        if existing is None and is_new is False:
            raise _gone(found, name)
        if existing is not None and is_new:
            raise _refusal({"name": [f"{found.slug} has a rule {name.strip()!r} already."]})
        before = document_of(existing) if existing else None
        rule = existing or AlertRule(feature=found, name=name.strip(), created_at=now)
        watched = _watched(rule) if existing else None
        for field, value in values.items():
            setattr(rule, field, value)
        rule.save()
        if watched is not None and watched != _watched(rule):
            RuleState.objects.filter(rule=rule).delete()
        _record(rule, "rule.saved", actor, before, document_of(rule), now)
        _evaluate_soon(found)
    return Saved(rule, before is None)


def read_rule(*, feature: Feature, name: str, document: Any, now: datetime) -> AlertRule:
    """The rule that the document makes, by itself: nothing is saved. Raises Refusal as `save_rule` would.

    The name may be empty, as of a rule that was not given one yet.
    """
    existing = (
        AlertRule.objects.filter(feature=feature, name=name.strip()).first() if _is_name(name) else None
    )
    values = _read(document, feature, name if name.strip() else "unnamed", existing, now)
    return AlertRule(feature=feature, name=name.strip(), **values)


def reset_rule(*, rule_id: int, actor: str, now: datetime) -> AlertRule:
    """Makes a default rule what it was when it was made: enabled, of its kind's severity, without a wait.

    Raises Refusal("unknown_rule") where it was deleted, and for a rule that is no default one.
    """
    rule = AlertRule.objects.filter(pk=rule_id, is_default=True).select_related("feature__team").first()
    if rule is None:
        raise _gone(None, "")
    as_it_was = {field: document_of(rule)[field] for field in _TARGET}
    return save_rule(
        team=rule.feature.team,
        feature=rule.feature.slug,
        name=rule.name,
        document=as_it_was,
        actor=actor,
        now=now,
        is_new=False,
    ).rule


def switch_rule(*, rule_id: int, is_enabled: bool, actor: str, now: datetime) -> AlertRule:
    """Enables the rule, or disables it, which ends what an incident is open for by this rule alone.

    Raises Refusal("unknown_rule") where it was deleted, "invalid_rule" for one that could not fire now.
    """
    rule = AlertRule.objects.filter(pk=rule_id).select_related("feature__team").first()
    if rule is None:
        raise _gone(None, "")
    return save_rule(
        team=rule.feature.team,
        feature=rule.feature.slug,
        name=rule.name,
        document={**document_of(rule), "enabled": is_enabled},
        actor=actor,
        now=now,
        is_new=False,
    ).rule


def delete_rule(*, rule_id: int, actor: str, now: datetime) -> AlertRule:
    """Ends the rule, and with it what an incident is open for by this rule alone.

    Raises Refusal("unknown_rule") where it was deleted before, "default_rule" for one that every feature with a
    latency budget has: it would be made again, and can be switched off instead.
    """
    with transaction.atomic():
        rule = AlertRule.objects.filter(pk=rule_id).select_related("feature__team").first()
        if rule is None:
            raise _gone(None, "")
        locks.lock_features([rule.feature_id])
        if rule.is_default:
            raise Refusal(
                "default_rule",
                f"{rule.name!r} is a default rule, which every feature with a latency budget has. Switch it off instead. "
                "Nothing was changed.",
                status=409,
            )
        before = document_of(rule)
        AlertRule.objects.filter(pk=rule_id).delete()
        _record(rule, "rule.deleted", actor, before, None, now)
        _evaluate_soon(rule.feature)
    return rule


def document_of(rule: AlertRule) -> dict[str, Any]:
    """The rule as a document that changes nothing, each parameter with its value."""
    return {
        "kind": str(rule.kind),
        "environment": rule.environment,
        "milestone": None if rule.milestone is None else str(rule.milestone),
        "component": rule.component,
        "severity": None if rule.severity is None else str(rule.severity),
        "enabled": rule.is_enabled,
        "for_seconds": rule.for_seconds,
        "keep_firing_seconds": rule.keep_firing_seconds,
        "parameters": parameters_of(rule),
    }


def differs_from_its_default(rule: AlertRule) -> bool:
    """Whether anybody has said anything about the rule: of a default one, whether it is as it was made."""
    return not rule.is_default or any(
        (
            rule.severity is not None,
            not rule.is_enabled,
            rule.for_seconds != 0,
            rule.keep_firing_seconds is not None,
        )
    )


def feature_of(team: Team, slug: str) -> Feature:
    """The team's feature. Raises Refusal("unknown_feature", 404)."""
    found = (
        None if "\0" in slug else Feature.objects.filter(team=team, slug=slug).select_related("team").first()
    )
    if found is None:
        raise Refusal(
            "unknown_feature", f"There is no feature {slug!r:.210} in team {team.slug!r}.", status=404
        )
    return found


def rule_of(team: Team, feature: str, name: str) -> AlertRule:
    """The feature's rule of this name. Raises Refusal("unknown_feature" or "unknown_rule", 404)."""
    found = feature_of(team, feature)
    rule = None if "\0" in name else AlertRule.objects.filter(feature=found, name=name).first()
    if rule is None:
        raise Refusal("unknown_rule", f"{found.slug} has no rule {name!r:.210}.", status=404)
    rule.feature = found
    return rule


# Reading a document


def _read(
    document: Any, feature: Feature, name: str, existing: AlertRule | None, now: datetime
) -> dict[str, Any]:
    """The fields of the row. Raises Refusal with all that is wrong."""
    if not isinstance(document, dict):
        raise _refusal({"document": ["Expected an object with kind and what it needs."]}, "invalid_document")
    problems: Problems = {}
    if not _is_name(name.strip()) or "/" in name:
        problems["name"] = [
            f"A rule's name has 1 to {MAX_NAME_CHARACTERS} characters, none of them a slash or U+0000."
        ]
    for field in document:
        if field not in _FIELDS and field not in _ANSWERED:
            problems[str(field)[:100]] = [f"There is no such field; a rule has {', '.join(_FIELDS)}."]
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in Kind.values:
        problems["kind"] = [f"kind must be one of {', '.join(Kind.values)}, got {kind!r:.100}."]
        raise _refusal(problems)
    values = {"kind": kind, **_fields(document, problems)}
    values["parameters"] = _parameters(kind, document.get("parameters", {}), problems)
    _check_target(kind, values, problems)
    if not problems:
        budgets = {
            milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], now).items()
        }
        _check_default(feature, name.strip(), values, existing, budgets, problems)
        if values["is_enabled"] and not problems:
            _check_it_can_fire(feature, values, budgets, problems)
    if problems:
        raise _refusal(problems)
    return values


def _fields(document: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """What every rule has, but for its kind and parameters."""
    environment = document.get("environment", DEFAULT_ENVIRONMENT)
    if not _is_name(environment):
        problems["environment"] = [f"An environment has 1 to 200 characters, got {environment!r:.100}."]
    milestone = document.get("milestone")
    if milestone is not None and milestone not in Milestone.values:
        problems["milestone"] = [f"milestone must be first_token or complete, got {milestone!r:.100}."]
    component = document.get("component")
    if component is not None and not _is_name(component):
        problems["component"] = [f"A component's name has 1 to 200 characters, got {component!r:.100}."]
    severity = document.get("severity")
    if severity is not None and severity not in Severity.values:
        problems["severity"] = [
            f"severity must be ticket or page, or null for what the kind decides, got {severity!r:.100}."
        ]
    is_enabled = document.get("enabled", True)
    if not isinstance(is_enabled, bool):
        problems["enabled"] = [f"enabled must be true or false, got {is_enabled!r:.100}."]
    seconds = {"for_seconds": document.get("for_seconds", 0)}
    seconds["keep_firing_seconds"] = document.get("keep_firing_seconds")
    for field, value in seconds.items():
        if value is None and field == "keep_firing_seconds":
            continue
        if not _is_number(value, int) or not 0 <= value <= MAX_SECONDS:
            problems[field] = [f"{field} must be a whole number from 0 to {MAX_SECONDS}, got {value!r:.100}."]
    return {
        "environment": environment,
        "milestone": milestone,
        "component": component,
        "severity": severity,
        "is_enabled": is_enabled,
        **seconds,
    }


def _is_name(value: Any) -> bool:
    """A text that PostgreSQL takes: without U+0000 and halves of a pair of surrogates."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARACTERS or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: Any, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _check_target(kind: str, values: Mapping[str, Any], problems: Problems) -> None:
    milestone, component = values["milestone"], values["component"]
    if kind in _OF_A_MILESTONE and milestone is None:
        problems.setdefault("milestone", [f"{kind} watches a milestone: first_token or complete."])
    elif kind in _OF_COMPONENTS | {Kind.UNALLOCATED_COMPONENT} and milestone is not None:
        problems.setdefault("milestone", [f"{kind} watches components and no milestone."])
    elif kind in _OF_EITHER and (milestone is None) == (component is None):
        problems.setdefault("milestone", [f"{kind} watches either a milestone or a component: name one."])
    elif milestone is not None and component is not None and kind == Kind.NO_DATA:
        problems.setdefault(
            "milestone", ["no_data watches a milestone, a component, or all: name one or none."]
        )
    if kind in _OF_A_MILESTONE | {Kind.UNALLOCATED_COMPONENT} and component is not None:
        problems.setdefault("component", [f"{kind} watches no single component."])


def _check_default(
    feature: Feature,
    name: str,
    values: dict[str, Any],
    existing: AlertRule | None,
    budgets: Mapping[str, BudgetInForce],
    problems: Problems,
) -> None:
    """Default rules keep what they watch, and nothing else takes their names."""
    watched = tuple(values[field] for field in _TARGET)
    if existing is not None:
        if existing.is_default:
            for field, value in zip(_TARGET, watched, strict=True):
                if getattr(existing, field) != value:
                    problems[field] = [
                        f"{name!r} is a default rule, whose {field} stays {getattr(existing, field)!r}. "
                        "Save a rule of another name."
                    ]
        return
    defaults = {
        AlertRule.default_name(kind, milestone, DEFAULT_ENVIRONMENT): (
            str(kind),
            DEFAULT_ENVIRONMENT,
            milestone,
            None,
        )
        for kind, milestone in [
            *((Kind.BURN_RATE, str(one)) for one in Milestone.values),
            (Kind.COMPONENT_OVERRUN, None),
        ]
    }
    if name not in defaults:
        return
    if defaults[name] != watched or not budgets:
        problems["name"] = [
            f"{name!r} is the name of a default rule, which comes with a latency budget. Choose another."
        ]
    # The next evaluation would make it: somebody is before it.
    values["is_default"] = True


_TARGET = ("kind", "environment", "milestone", "component")


def _check_it_can_fire(
    feature: Feature, values: Mapping[str, Any], budgets: Mapping[str, BudgetInForce], problems: Problems
) -> None:
    """Whether anything could ever make it fire. One that is switched off need not."""
    kind, milestone, component = values["kind"], values["milestone"], values["component"]
    if kind in _OF_A_MILESTONE and milestone not in budgets:
        problems["milestone"] = [
            f"{milestone} of {feature.slug} has no latency budget, so this rule could never fire."
        ]
    if component is not None:
        if not Component.objects.filter(feature=feature, name=component).exists():
            problems["component"] = [
                f"{feature.slug} neither declares nor ever measured a component {component!r:.210}, so this rule "
                "could never fire."
            ]
        elif kind == Kind.COMPONENT_OVERRUN and not any(
            component in budget.allocations for budget in budgets.values()
        ):
            problems["component"] = [
                f"{component!r:.210} has no allocation that it could exceed, so this rule could never fire."
            ]
    if kind == Kind.NO_DATA and values["for_seconds"] >= MAX_SECONDS:
        problems["for_seconds"] = [
            "What is silent is given up after a day, so a rule that waits for a day could never fire."
        ]


# Parameters


@dataclass(frozen=True, slots=True)
class _Number:
    """`low` and `high` are included unless the bounds are open; `never` says what lies beyond `high`."""

    low: float
    high: float
    is_whole: bool = False
    is_open: bool = False
    never: str = ""

    def problem(self, value: Any) -> str:
        types = (int,) if self.is_whole else (int, float)
        is_number = _is_number(value, *types)
        if is_number and (self.low < value < self.high if self.is_open else self.low <= value <= self.high):
            return ""
        between = (
            f"between {self.low:g} and {self.high:g}"
            if self.is_open
            else f"from {self.low:g} to {self.high:g}"
        )
        said = f"must be a {'whole ' if self.is_whole else ''}number {between}, got {value!r:.100}."
        return f"{said} {self.never}" if self.never and is_number and value >= self.high else said


@dataclass(frozen=True, slots=True)
class _Choice:
    choices: tuple[str, ...]

    def problem(self, value: Any) -> str:
        is_one = isinstance(value, str) and value in self.choices
        return "" if is_one else f"must be one of {', '.join(self.choices)}, got {value!r:.100}."


@dataclass(frozen=True, slots=True)
class _Percents:
    def problem(self, value: Any) -> str:
        is_sound = (
            isinstance(value, list)
            and 1 <= len(value) <= 10
            and all(_is_number(one, int) and 0 <= one <= 99 for one in value)
            and len(set(value)) == len(value)
        )
        return (
            "" if is_sound else f"must be 1 to 10 different whole numbers from 0 to 99, got {value!r:.100}."
        )


PERCENTILES: Final = ("p50", "p95", "p99")
THRESHOLD_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d")

_NEVER: Final = "Beyond that it could never fire."
_PARAMETERS: Final[Mapping[str, Mapping[str, _Number | _Choice | _Percents]]] = {
    Kind.BURN_RATE: {},
    Kind.COMPONENT_OVERRUN: {},
    Kind.TIMEOUTS: {
        "share_ratio": _Number(0, 1, is_open=True, never=_NEVER),
        "min_timeouts": _Number(1, 1_000_000, is_whole=True),
    },
    Kind.ERROR_BUDGET: {"remaining_percents": _Percents()},
    Kind.THRESHOLD: {
        "percentile": _Choice(PERCENTILES),
        # A longer duration is rejected when it is measured.
        "threshold_ms": _Number(0, _MAX_DURATION_MS, is_open=True, never=_NEVER),
        "window": _Choice(THRESHOLD_WINDOWS),
        "min_measured": _Number(1, 1_000_000, is_whole=True),
    },
    Kind.TREND: {
        "growth_ratio": _Number(1, 100, is_open=True),
        "min_measured": _Number(1, 1_000_000, is_whole=True),
    },
    Kind.FORECAST: {},
    Kind.NO_DATA: {"silent_minutes": _Number(2, _MINUTES_OF_A_DAY, is_whole=True, never=_NEVER)},
    Kind.UNALLOCATED_COMPONENT: {"share_ratio": _Number(0, 1, is_open=True, never=_NEVER)},
}


def _parameters(kind: str, given: Any, problems: Problems) -> dict[str, Any]:
    """What differs from the kind's defaults."""
    if not isinstance(given, dict):
        problems["parameters"] = [f"parameters must be an object, got {given!r:.100}."]
        return {}
    known = _PARAMETERS[kind]
    for name, value in given.items():
        field = f"parameters.{str(name)[:100]}"
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            problems[field] = [f"{kind} has no such parameter; {has}."]
        elif said := known[name].problem(value):
            problems[field] = [f"{name} {said}"]
    for name in known.keys() - DEFAULTS[kind].keys() - given.keys():
        problems[f"parameters.{name}"] = [f"{kind} needs {name}."]
    return {name: value for name, value in given.items() if DEFAULTS[kind].get(name) != value}


# What every change does


def _watched(rule: AlertRule) -> tuple[Any, ...]:
    return (*(getattr(rule, field) for field in _TARGET), parameters_of(rule))


def _record(rule: AlertRule, action: str, actor: str, before: Any, after: Any, now: datetime) -> None:
    audit.record(
        team=rule.feature.team,
        actor=actor,
        action=action,
        subject=f"{rule.feature.slug}/{rule.name}",
        before=before,
        after=after,
        now=now,
    )


def _evaluate_soon(feature: Feature) -> None:
    ring: Callable[[], object] = partial(doorbell.send, "alerts.tasks.evaluate", [feature.pk])
    transaction.on_commit(ring, robust=True)


def _gone(feature: Feature | None, name: str) -> Refusal:
    which = f"rule {name!r} of {feature.slug}" if feature else "this rule"
    return Refusal("unknown_rule", f"Somebody deleted {which} meanwhile. Nothing was changed.", status=404)


def _refusal(fields: Problems, code: str = "invalid_rule") -> Refusal:
    said = " ".join(sentence for sentences in fields.values() for sentence in sentences)
    return Refusal(code, f"{said} Nothing was saved.", fields=fields)
