"""The document of an alert rule: read and refused where it is wrong, and written so that it changes nothing.

A document is {"kind", "environment", "milestone" or "component", "severity", "enabled", "for_seconds",
"keep_firing_seconds", "parameters"}; all but the kind, and what the kind must be told, may be left out.
Parameters stand by themselves, so that the name of one can never be that of a field of every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from budgets.errors import Refusal
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Component, Feature, Milestone

from .conditions import DEFAULT_ENVIRONMENT
from .models import AlertRule, Severity
from .rule_parameters import Problems, is_number, read_parameters
from .sights import parameters_of

Kind = AlertRule.Kind

MAX_NAME_CHARACTERS: Final = 200
MAX_SECONDS: Final = 86_400
"""A day: what must hold for longer is a matter for a report."""

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


def read_document(
    document: Any, feature: Feature, name: str, existing: AlertRule | None, now: datetime
) -> dict[str, Any]:
    """The fields of the row. Raises Refusal with all that is wrong."""
    if not isinstance(document, dict):
        raise refusal({"document": ["Expected an object with kind and what it needs."]}, "invalid_document")
    problems: Problems = {}
    if not is_name(name.strip()) or "/" in name:
        problems["name"] = [
            f"A rule's name has 1 to {MAX_NAME_CHARACTERS} characters, none of them a slash or U+0000."
        ]
    for field in document:
        if field not in _FIELDS and field not in _ANSWERED:
            problems[str(field)[:100]] = [f"There is no such field; a rule has {', '.join(_FIELDS)}."]
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in Kind.values:
        problems["kind"] = [f"kind must be one of {', '.join(Kind.values)}, got {kind!r:.100}."]
        raise refusal(problems)
    values = {"kind": kind, **_fields(document, problems)}
    values["parameters"] = read_parameters(kind, document.get("parameters", {}), problems)
    _check_target(kind, values, problems)
    if not problems:
        budgets = {
            milestone: budget for (_, milestone), budget in budgets_in_force([feature.pk], now).items()
        }
        _check_default(feature, name.strip(), values, existing, budgets, problems)
        if values["is_enabled"] and not problems:
            _check_it_can_fire(feature, values, budgets, problems)
    if problems:
        raise refusal(problems)
    return values


def _fields(document: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """What every rule has, but for its kind and parameters."""
    environment = document.get("environment", DEFAULT_ENVIRONMENT)
    if not is_name(environment):
        problems["environment"] = [f"An environment has 1 to 200 characters, got {environment!r:.100}."]
    milestone = document.get("milestone")
    if milestone is not None and milestone not in Milestone.values:
        problems["milestone"] = [f"milestone must be first_token or complete, got {milestone!r:.100}."]
    component = document.get("component")
    if component is not None and not is_name(component):
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
        if not is_number(value, int) or not 0 <= value <= MAX_SECONDS:
            problems[field] = [f"{field} must be a whole number from 0 to {MAX_SECONDS}, got {value!r:.100}."]
    return {
        "environment": environment,
        "milestone": milestone,
        "component": component,
        "severity": severity,
        "is_enabled": is_enabled,
        **seconds,
    }


def is_name(value: Any) -> bool:
    """A text that PostgreSQL takes: without U+0000 and halves of a pair of surrogates."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARACTERS or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


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
    watched = tuple(values[field] for field in TARGET)
    if existing is not None:
        if existing.is_default:
            for field, value in zip(TARGET, watched, strict=True):
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


TARGET = ("kind", "environment", "milestone", "component")


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


def refusal(fields: Problems, code: str = "invalid_rule") -> Refusal:
    return Refusal.of(code, fields)
