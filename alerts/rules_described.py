"""The operations on alert rules, as the OpenAPI document tells of them."""

from __future__ import annotations

from typing import Any

from budgets.api.described import CURSOR_PARAMETER, FEATURE_PARAMETER
from budgets.api.operations import body, nullable, operation, parameter, ref
from budgets.models import Milestone

from .models import AlertRule, Severity
from .rule_documents import MAX_NAME_CHARACTERS, MAX_SECONDS
from .rule_parameters import DEFAULTS, PERCENTILES, THRESHOLD_WINDOWS

Kind = AlertRule.Kind

_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARACTERS, "pattern": r"^[^\x00]*$"}
_MILESTONE = {"type": "string", "enum": list(Milestone.values)}
_NULL = {"type": "null"}
_ADDED = {"readOnly": True, "description": "What an answer adds. It may come back and says nothing."}
_SECONDS = {"type": "integer", "minimum": 0, "maximum": MAX_SECONDS}
_SHARE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 1_000_000}

_OF_EVERY_RULE: dict[str, Any] = {
    "environment": {**_TEXT, "default": "production"},
    "severity": nullable(
        {
            "type": "string",
            "enum": list(Severity.values),
            "description": "In place of what the kind decides.",
        }
    ),
    "enabled": {"type": "boolean", "default": True},
    "for_seconds": {**_SECONDS, "default": 0, "description": "How long it must hold before it fires."},
    "keep_firing_seconds": nullable(
        {**_SECONDS, "description": "How long it must be over before it clears; null: the installation's."}
    ),
    "feature": _ADDED,
    "name": _ADDED,
    "is_default": _ADDED,
}

_A_MILESTONE = ({"milestone": _MILESTONE}, {"component": _NULL})
_COMPONENTS: tuple[dict[str, Any], dict[str, Any]] = ({}, {"milestone": _NULL, "component": nullable(_TEXT)})
_ALL: tuple[dict[str, Any], dict[str, Any]] = ({}, {"milestone": _NULL, "component": _NULL})

_PARAMETERS: dict[str, dict[str, Any]] = {
    Kind.TIMEOUTS: {"share_ratio": _SHARE, "min_timeouts": _COUNT},
    Kind.ERROR_BUDGET: {
        "remaining_percents": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 99},
            "minItems": 1,
            "maxItems": 10,
            "uniqueItems": True,
        }
    },
    Kind.THRESHOLD: {
        "percentile": {"type": "string", "enum": list(PERCENTILES)},
        "threshold_ms": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 604_800_000},
        "window": {"type": "string", "enum": list(THRESHOLD_WINDOWS)},
        "min_measured": _COUNT,
    },
    Kind.TREND: {
        "growth_ratio": {"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 100},
        "min_measured": _COUNT,
    },
    Kind.NO_DATA: {"silent_minutes": {"type": "integer", "minimum": 2, "maximum": 1440}},
    Kind.UNALLOCATED_COMPONENT: {"share_ratio": _SHARE},
}


def _rule(
    kind: Kind, target: tuple[dict[str, Any], dict[str, Any]], description: str, title: str = ""
) -> dict[str, Any]:
    """`target` is what must be named, and what may be."""
    required, optional = target
    properties = _PARAMETERS.get(kind, {})
    needed = sorted(properties.keys() - DEFAULTS[kind].keys())
    described = {
        name: {**schema, "default": DEFAULTS[kind][name]} if name in DEFAULTS[kind] else schema
        for name, schema in properties.items()
    }
    parameters = {
        "type": "object",
        "properties": described,
        "required": needed,
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "title": title or str(kind),
        "description": description,
        "required": ["kind", *required, *(["parameters"] if needed else [])],
        "properties": {
            "kind": {"type": "string", "const": str(kind)},
            **required,
            **optional,
            **_OF_EVERY_RULE,
            "parameters": parameters,
        },
        "additionalProperties": False,
    }


_A_COMPONENT = ({"component": _TEXT}, {"milestone": _NULL})

RULES: list[dict[str, Any]] = [
    _rule(
        Kind.BURN_RATE,
        _A_MILESTONE,
        "The error budget burns faster than a tier's factor, or there is an outage.",
    ),
    _rule(
        Kind.COMPONENT_OVERRUN,
        _COMPONENTS,
        "A component exceeds its allocation more often than chance explains.",
    ),
    _rule(Kind.TIMEOUTS, _COMPONENTS, "Too many measurements of a component time out, over five minutes."),
    _rule(Kind.ERROR_BUDGET, _A_MILESTONE, "Less of the error budget is left than each of the thresholds."),
    _rule(
        Kind.THRESHOLD,
        _A_MILESTONE,
        "A percentile of a milestone is over a threshold.",
        "threshold of a milestone",
    ),
    _rule(
        Kind.THRESHOLD,
        _A_COMPONENT,
        "A percentile of a component is over a threshold.",
        "threshold of a component",
    ),
    _rule(
        Kind.TREND,
        _A_MILESTONE,
        "The p95 of a milestone grows against the day before.",
        "trend of a milestone",
    ),
    _rule(
        Kind.TREND,
        _A_COMPONENT,
        "The p95 of a component grows against the day before.",
        "trend of a component",
    ),
    _rule(Kind.FORECAST, _A_MILESTONE, "The error budget will be gone within 48 hours."),
    _rule(
        Kind.NO_DATA,
        ({}, {"milestone": nullable(_MILESTONE), "component": _NULL}),
        "A milestone, or every series of the feature, falls silent.",
        "no_data of a milestone or of all",
    ),
    _rule(Kind.NO_DATA, _A_COMPONENT, "A component falls silent.", "no_data of a component"),
    _rule(Kind.UNALLOCATED_COMPONENT, _ALL, "A component without an allocation takes time."),
]

SCHEMAS: dict[str, Any] = {"RuleDocument": {"anyOf": RULES}}

_NAME = parameter(
    "name",
    "The rule's name within the feature.",
    {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_NAME_CHARACTERS,
        "pattern": r"^[^\x00/]*[^\s\x00/][^\x00/]*$",
    },
    where="path",
    example="slow first token",
)

LIST_RULES = operation(
    tag="rules",
    summary="List a feature's rules",
    scope="read",
    parameters=[FEATURE_PARAMETER, CURSOR_PARAMETER],
    answers={200: {"description": "The feature's rules by name."}},
    errors=["unknown_feature", "invalid_cursor"],
)

GET_RULE = operation(
    tag="rules",
    summary="Read a rule",
    scope="read",
    parameters=[FEATURE_PARAMETER, _NAME],
    answers={200: {"description": "The rule."}},
    errors=["unknown_feature", "unknown_rule"],
)

PUT_RULE = operation(
    tag="rules",
    summary="Save a rule",
    scope="write",
    parameters=[FEATURE_PARAMETER, _NAME],
    request_body=body(
        ref("RuleDocument"),
        examples={
            "Threshold": {
                "kind": "threshold",
                "milestone": "first_token",
                "severity": "page",
                "for_seconds": 600,
                "parameters": {"percentile": "p95", "threshold_ms": 500},
            },
            "Timeouts of every component": {"kind": "timeouts", "parameters": {"share_ratio": 0.02}},
            "Error budget": {"kind": "error_budget", "milestone": "first_token"},
        },
    ),
    answers={
        200: {"description": "It was there, and is now what the document says."},
        201: {"description": "It is new."},
    },
    errors=["unknown_feature", "invalid_document", "invalid_rule"],
)

DELETE_RULE = operation(
    tag="rules",
    summary="Delete a rule",
    scope="write",
    parameters=[FEATURE_PARAMETER, _NAME],
    answers={204: {"description": "It watches nothing more."}},
    errors=["unknown_feature", "unknown_rule", "default_rule"],
)
