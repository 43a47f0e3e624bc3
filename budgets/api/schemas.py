"""The documents of the API as JSON Schema, beside the modules that read and write them.

A test compares the fields of what is read with the structures that decode them, and the answers of a running
server are checked against all of it.
"""

from __future__ import annotations

from typing import Any

from budgets.annotations import KINDS, MAX_URL_CHARACTERS
from budgets.burn_rates import BURN_RATE_WINDOWS, State
from budgets.documents import MAX_BUDGET_MS, READ_ONLY_FIELDS, SLUG, WINDOWS_DAYS
from budgets.items import MAX_NAME
from budgets.models import Annotation, Feature, Milestone
from budgets.payloads import MAX_DURATION_MS, MAX_LABELS_BYTES

from .error_codes import REJECTIONS
from .operations import TEXT, Schema, nullable, ref

SLUG_SCHEMA: Schema = {"type": "string", "pattern": f"^{SLUG.pattern}$", "examples": ["support-chat"]}
MILESTONE: Schema = {"type": "string", "enum": list(Milestone.values)}
INSTANT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-11-21T20:00:00Z"]}
ANY_INSTANT: Schema = {
    "description": "RFC 3339 with a zone, or Unix seconds.",
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 253_370_764_800},
    ],
}
RATIO: Schema = {"type": "number", "minimum": 0, "maximum": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
_MILLISECONDS: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": int(MAX_BUDGET_MS)}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": r"^[^\x00]*$"}
_NOTE: Schema = {**TEXT, "default": "", "description": "Why these numbers: the assumptions to revisit."}
_ALLOCATIONS: Schema = {
    "type": "object",
    "description": "Component → ms. They add up to at most the latency budget, of which first_token's is the first part.",
    "additionalProperties": _MILLISECONDS,
}


def _object(
    description: str, required: dict[str, Schema], optional: dict[str, Schema] | None = None
) -> Schema:
    """An object that has no other fields."""
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _page(item: str, order: str) -> Schema:
    return _object(
        f"One page, {order}.",
        {
            "items": {"type": "array", "items": ref(item)},
            "next_cursor": nullable({"type": "string", "description": "Of the next page; null on the last."}),
        },
    )


# -- features ---------------------------------------------------------------------------------------

_BUDGET: dict[str, Schema] = {
    "milestone": MILESTONE,
    "budget_ms": _MILLISECONDS,
    "objective": {
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "description": "The share of requests that must meet the latency budget; at most 6 decimals.",
    },
    "window_days": {"type": "integer", "enum": list(WINDOWS_DAYS)},
}
_FEATURE: dict[str, Schema] = {
    "name": {**_NAME, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    "components": {
        "type": "array",
        "maxItems": 50,
        "uniqueItems": True,
        "items": _NAME,
        "description": "A component that is missing is archived: still measured, it becomes unallocated.",
    },
    "latency_budgets": {
        "type": "array",
        "maxItems": len(Milestone.values),
        "items": ref("LatencyBudget"),
        "description": "Each milestone at most once; one that is missing is retired by a new version.",
    },
}
_FEATURE_OPTIONS: dict[str, Schema] = {
    "team": {
        "type": "string",
        "description": "The key's team; another is refused.",
        "examples": ["assistants"],
    },
    "kind": {"type": "string", "enum": list(Feature.Kind.values), "default": "other"},
    "description": {**TEXT, "default": ""},
    "runbook_url": nullable(
        {
            "type": "string",
            "pattern": r"^([hH][tT][tT][pP][sS]?://[^\s\x00]+)?$",
            "maxLength": 2000,
            "examples": ["https://wiki.example.com/support-chat"],
        }
    ),
    "archived": {
        "type": "boolean",
        "default": False,
        "description": "An archived feature keeps its history; its items are rejected.",
    },
}
_VERSION = _object(
    "A version of a latency budget. Of a retired one budget_ms, objective and window_days are null.",
    {
        "milestone": MILESTONE,
        "version": {"type": "integer", "minimum": 1},
        "budget_ms": nullable(_MILLISECONDS),
        "objective": nullable(RATIO),
        "window_days": nullable({"type": "integer"}),
        "allocations": _ALLOCATIONS,
        "note": {"type": "string"},
        "effective_from": INSTANT,
    },
)
_STATES = [state.value for state in State]
_STATE: Schema = {"type": "string", "enum": [state for state in _STATES if state != State.UNALLOCATED]}
_FEATURE_ANSWER = _object(
    "A feature as it was declared, every version of its latency budgets, and its state now.",
    {
        "feature": SLUG_SCHEMA,
        **_FEATURE,
        "team": {"type": "string"},
        "kind": {"type": "string", "enum": list(Feature.Kind.values)},
        "description": {"type": "string"},
        "archived": {"type": "boolean"},
        "runbook_url": nullable({"type": "string"}),
        "versions": {"type": "array", "items": ref("LatencyBudgetVersion")},
        "state": {**_STATE, "description": "The worst of its milestones."},
        "states": {
            "type": "object",
            "description": "Milestone → state.",
            "propertyNames": MILESTONE,
            "additionalProperties": _STATE,
        },
    },
)

# -- status and time series -------------------------------------------------------------------------

_PERCENTILE: Schema = {
    "description": "ms; at_least where it falls among timeouts; null without data.",
    "oneOf": [
        {"type": "number", "minimum": 0},
        _object("", {"at_least": {"type": "number", "minimum": 0}}),
        {"type": "null"},
    ],
}
_PERCENTILES = _object("", {name: ref("Percentile") for name in ("p50", "p95", "p99")})
_BOUNDS = _object("Half-open.", {"from": INSTANT, "to": INSTANT})
_COUNTS: dict[str, Schema] = {"total": COUNT, "judged": COUNT}
_STATUS = _object(
    "A milestone against its latency budget. Without one latency_budget, error_budget and burn_rates are null.",
    {
        "feature": SLUG_SCHEMA,
        "milestone": MILESTONE,
        "environment": {"type": "string"},
        "as_of": INSTANT,
        "state": _STATE,
        "latency_budget": nullable(
            _object(
                "The version in force at as_of.",
                {
                    "budget_ms": _MILLISECONDS,
                    "objective": RATIO,
                    "window_days": {"type": "integer"},
                    "version": {"type": "integer", "minimum": 1},
                    "effective_from": INSTANT,
                    "unallocated_ms": {"type": "number"},
                },
            )
        ),
        "window": {**_BOUNDS, "description": "Of the counts, sli_ratio and the error budget."},
        **_COUNTS,
        "good": COUNT,
        "bad": {**COUNT, "description": "judged − good"},
        "errors": COUNT,
        "timeouts": COUNT,
        "sli_ratio": nullable({**RATIO, "description": "good / judged"}),
        "error_budget": nullable(
            _object(
                "1 − objective of what was judged: the share that may miss.",
                {
                    "allowed_bad": {"type": "number", "minimum": 0},
                    "consumed_ratio": nullable({"type": "number", "minimum": 0}),
                    "remaining_ratio": nullable(
                        {"type": "number", "description": "Below zero when overspent."}
                    ),
                },
            )
        ),
        "burn_rates": nullable(
            {
                "type": "array",
                "items": _object(
                    "1.0 spends the error budget exactly over its window.",
                    {
                        "window": {"type": "string", "enum": list(BURN_RATE_WINDOWS)},
                        "from": INSTANT,
                        "to": INSTANT,
                        "total": {**COUNT, "description": "What was judged."},
                        "bad": COUNT,
                        "burn_rate": nullable({"type": "number", "minimum": 0}),
                    },
                ),
            }
        ),
        "range": {**_BOUNDS, "description": "Of the percentiles and the components."},
        "percentiles_ms": ref("Percentiles"),
        "components": {
            "type": "array",
            "description": "Those allocated under the milestone, and those unallocated.",
            "items": _object(
                "",
                {
                    "component": {"type": "string"},
                    "allocated_ms": nullable(_MILLISECONDS),
                    **_COUNTS,
                    "over": COUNT,
                    "errors": COUNT,
                    "timeouts": COUNT,
                    "percentiles_ms": ref("Percentiles"),
                    "state": {"type": "string", "enum": _STATES},
                },
            ),
        },
    },
)
_COUNT_COLUMN: Schema = {"type": "array", "items": COUNT}
_PERCENTILE_COLUMN: Schema = {"type": "array", "items": ref("Percentile")}
_TIMESERIES = _object(
    "Columns of equal length; every step is there, an empty one with total 0 and null percentiles.",
    {
        "target": {"type": "string"},
        "step": {"type": "integer", "enum": [60, 3600, 86400], "description": "Seconds."},
        "start": {"type": "array", "items": INSTANT},
        **dict.fromkeys(("total", "good", "over", "errors", "timeouts"), _COUNT_COLUMN),
        "limit_ms": {
            "type": "array",
            "items": nullable(_MILLISECONDS),
            "description": "The latency budget or allocation in force.",
        },
        **dict.fromkeys(("p50", "p95", "p99"), _PERCENTILE_COLUMN),
    },
)

# -- annotations ------------------------------------------------------------------------------------

_ANNOTATION_TEXT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": Annotation.MAX_TEXT_CHARACTERS,
    "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
    "description": "One line; blanks in a row become one.",
    "examples": ["v412"],
}
_ANNOTATION_DOCUMENT = _object(
    "A deploy or a note. The same once more is no second one.",
    {
        "kind": {"type": "string", "enum": [kind.value for kind in KINDS]},
        "text": _ANNOTATION_TEXT,
    },
    {
        "feature": nullable({**SLUG_SCHEMA, "description": "Left out: all of the team's."}),
        "environment": {
            **_ANNOTATION_TEXT,
            "maxLength": MAX_NAME,
            "default": "production",
            "examples": ["production"],
            "description": "Where it happened.",
        },
        "at": nullable(
            {
                **ANY_INSTANT,
                "description": "Left out: now. Within the retention of hours, and at most 60 s ahead.",
            }
        ),
        "url": nullable(
            {
                "type": "string",
                "pattern": r"^([hH][tT][tT][pP][sS]?://[^\s\x00]+)?$",
                "maxLength": MAX_URL_CHARACTERS,
                "examples": ["https://ci.example.com/jobs/4711"],
            }
        ),
    },
)
_ANNOTATION = _object(
    "Something that happened. A release has no author: it appeared when it was measured for the first time.",
    {
        "id": {"type": "integer"},
        "kind": {"type": "string", "enum": list(Annotation.Kind.values)},
        "text": {"type": "string"},
        "feature": nullable(SLUG_SCHEMA),
        "environment": {"type": "string"},
        "at": INSTANT,
        "url": nullable({"type": "string"}),
        "author": nullable({"type": "string"}),
        "created_at": INSTANT,
    },
)

# -- ingest -----------------------------------------------------------------------------------------

_STATUS_NAME: Schema = {"type": "string", "enum": ["ok", "error", "timeout"], "default": "ok"}
_DURATION: Schema = {"type": "number", "minimum": 0, "maximum": int(MAX_DURATION_MS)}
_TRACE_ID: Schema = nullable({"type": "string", "pattern": "^(?!0{32})[0-9a-f]{32}$"})
_SPAN_ID: Schema = nullable({"type": "string", "pattern": "^(?!0{16})[0-9a-f]{16}$"})
_LABELS: Schema = nullable(
    {
        "type": "object",
        "description": f"At most {MAX_LABELS_BYTES} bytes as JSON.",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    }
)
_PLACE: dict[str, Schema] = {
    "status": _STATUS_NAME,
    "trace_id": _TRACE_ID,
    "environment": {**_NAME, "default": "production"},
    "release": {**TEXT, "maxLength": MAX_NAME, "default": ""},
    "labels": _LABELS,
}


def _item(description: str, required: dict[str, Schema], optional: dict[str, Schema]) -> dict[str, Any]:
    """An object that may have other fields: senders are updated at other times than the dashboard."""
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": {**required, **optional},
    }


_MEASUREMENT: Schema = {
    **_item(
        "The time that one component took in one request, or at which one milestone was reached.",
        {"feature": _NAME, "started_at": ref("Instant"), "duration_ms": _DURATION},
        {
            "component": nullable(_NAME),
            "milestone": nullable(MILESTONE),
            "span_id": _SPAN_ID,
            "parent_span_id": _SPAN_ID,
            **_PLACE,
        },
    ),
    "oneOf": [
        {
            "required": ["component"],
            "properties": {"component": {"type": "string"}, "milestone": {"type": "null"}},
        },
        {
            "required": ["milestone"],
            "properties": {"milestone": {"type": "string"}, "component": {"type": "null"}},
        },
    ],
}
_REQUEST = _item(
    "A whole request, which stands for its measurements. It is stored whole or not at all.",
    {"feature": _NAME, "started_at": ref("Instant")},
    {
        "milestones": {
            "type": "object",
            "description": "Milestone → ms since the request started. Its status is that of the last one reached.",
            "propertyNames": MILESTONE,
            "additionalProperties": _DURATION,
        },
        "components": {"type": "array", "items": ref("ComponentCall")},
        **_PLACE,
    },
)
_CALL = _item(
    "One call of a component. Several of one component are judged once, by the union of their intervals.",
    {"component": _NAME, "duration_ms": _DURATION},
    {
        "offset_ms": nullable({**_DURATION, "description": "Since the request started."}),
        "status": _STATUS_NAME,
        "span_id": _SPAN_ID,
        "parent_span_id": _SPAN_ID,
    },
)
_REJECTED = _object(
    "An item that was not stored, while the others were.",
    {
        "index": {**COUNT, "description": "Counts within the list that `in` names, from 0."},
        "in": {"type": "string", "enum": ["measurements", "requests"]},
        "code": {"type": "string", "enum": sorted(REJECTIONS)},
        "message": {"type": "string"},
    },
)

SCHEMAS: dict[str, Schema] = {
    "Error": {
        "type": "object",
        "description": "The one shape of every error.",
        "required": ["error"],
        "properties": {
            "error": _object(
                "",
                {
                    "code": {"type": "string", "description": "For programs."},
                    "message": {"type": "string", "description": "What was expected, what came, what to do."},
                    "fields": {
                        "type": "object",
                        "description": "What is wrong, field by field.",
                        "additionalProperties": {"type": "array", "items": {"type": "string"}},
                    },
                },
            )
        },
    },
    "Instant": ANY_INSTANT,
    "LatencyBudget": _object(
        "The ms that a milestone may take, and for which share of requests.",
        _BUDGET,
        {"allocations": _ALLOCATIONS, "note": _NOTE},
    ),
    "LatencyBudgetVersion": _VERSION,
    "FeatureDocument": _object(
        "Declares a feature. What GET adds may come back and says nothing.",
        _FEATURE,
        {**_FEATURE_OPTIONS, **{name: {"readOnly": True} for name in sorted(READ_ONLY_FIELDS)}},
    ),
    "Feature": _FEATURE_ANSWER,
    "FeaturePage": _page("Feature", "by slug"),
    "AnnotationDocument": _ANNOTATION_DOCUMENT,
    "Annotation": _ANNOTATION,
    "AnnotationPage": _page("Annotation", "the latest made first"),
    "Percentile": _PERCENTILE,
    "Percentiles": _PERCENTILES,
    "Status": _STATUS,
    "TimeSeries": _TIMESERIES,
    "Measurement": _MEASUREMENT,
    "Request": _REQUEST,
    "ComponentCall": _CALL,
    "Measurements": _item(
        "At most 10 000 measurements, each milestone and each component of a request counting as one.",
        {},
        {
            "measurements": {"type": "array", "items": ref("Measurement")},
            "requests": {"type": "array", "items": ref("Request")},
        },
    ),
    "Rejected": _REJECTED,
    "Accepted": _object(
        "What became of the items.",
        {
            "accepted": {**COUNT, "description": "How many are stored."},
            "duplicates": {**COUNT, "description": "How many repeat a span of the same body."},
            "rejected": {"type": "array", "items": ref("Rejected")},
        },
    ),
}
