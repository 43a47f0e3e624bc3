"""The operations on measurements and features, as the OpenAPI document tells of them."""

from __future__ import annotations

from typing import Any

from budgets.status import WINDOWS

from .error_codes import OF_DECLARING, OF_INGEST
from .operations import TEXT, answer, body, operation, parameter, ref
from .schemas import ANY_INSTANT, MILESTONE, SLUG_SCHEMA

FEATURE_PARAMETER = parameter("feature", "The feature's slug.", SLUG_SCHEMA, where="path")
CURSOR_PARAMETER = parameter(
    "cursor", "The next_cursor of the page before.", {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
)
_ENVIRONMENT = parameter("environment", "Where it was measured.", {**TEXT, "default": "production"})
_RELEASE = parameter("release", "Only this release; left out, all of them.", TEXT)

FEATURE_EXAMPLE: dict[str, Any] = {
    "name": "Support chat",
    "team": "assistants",
    "kind": "interactive_chat",
    "description": "",
    "components": ["model", "retrieval", "tools", "overhead"],
    "latency_budgets": [
        {
            "milestone": "first_token",
            "budget_ms": 3000,
            "objective": 0.99,
            "window_days": 28,
            "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300},
            "note": "Half of the time is the model's; retrieval answers from one index.",
        },
        {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
    ],
    "runbook_url": "https://wiki.example.com/support-chat",
}
MEASUREMENTS_EXAMPLE: dict[str, Any] = {
    "measurements": [
        {
            "feature": "support-chat",
            "component": "retrieval",
            "started_at": "2026-11-21T20:00:00.125Z",
            "duration_ms": 231.5,
            "status": "ok",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "span_id": "00f067aa0ba902b7",
            "environment": "production",
            "release": "v412",
            "labels": {"cache": "cold"},
        },
        {
            "feature": "support-chat",
            "milestone": "first_token",
            "started_at": 1795291200.125,
            "duration_ms": 1840,
        },
    ]
}
REQUESTS_EXAMPLE: dict[str, Any] = {
    "requests": [
        {
            "feature": "support-chat",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "started_at": "2026-11-21T20:00:00.125Z",
            "status": "ok",
            "environment": "production",
            "release": "v412",
            "milestones": {"first_token": 1840, "complete": 6210},
            "components": [
                {"component": "retrieval", "offset_ms": 12, "duration_ms": 231.5, "status": "ok"},
                {"component": "model", "offset_ms": 250, "duration_ms": 1500},
            ],
            "labels": {"cache": "cold"},
        }
    ]
}
_ACCEPTED_EXAMPLE = {
    "accepted": 7,
    "duplicates": 0,
    "rejected": [
        {
            "index": 3,
            "in": "measurements",
            "code": "negative_duration",
            "message": "duration_ms must be ≥ 0, got -3.",
        }
    ],
}
_TO_THE_FEATURE = {
    name: {"operationId": operation_id, "parameters": {"feature": "$request.path.feature"}}
    for name, operation_id in (("Its document", "getFeature"), ("Its status", "getFeatureStatus"))
}

_IDEMPOTENCY_KEY = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"}
_IDEMPOTENT_REPLAY = {
    "Idempotent-Replay": {
        "description": "true where this is the answer that an earlier request was given.",
        "schema": {"type": "string", "const": "true"},
    }
}

POST_MEASUREMENTS = operation(
    tag="measurements",
    summary="Push measurements",
    scope="ingest",
    parameters=[
        parameter(
            "Idempotency-Key",
            "The same key with the same payload within 24 h gives the same answer, and counts nothing twice. "
            "Keys are per team.",
            _IDEMPOTENCY_KEY,
            where="header",
        ),
        parameter(
            "Content-Encoding",
            "gzip inflates to at most 8 MiB.",
            {"type": "string", "enum": ["gzip", "identity"], "default": "identity"},
            where="header",
        ),
    ],
    request_body=body(
        ref("Measurements"),
        examples={"Single measurements": MEASUREMENTS_EXAMPLE, "Whole requests": REQUESTS_EXAMPLE},
    ),
    answers={
        200: answer(
            "Stored, before this was answered; what was not is in `rejected`.",
            ref("Accepted"),
            example=_ACCEPTED_EXAMPLE,
            headers=_IDEMPOTENT_REPLAY,
        )
    },
    errors=OF_INGEST,
    beside_errors={"rejected": {"type": "array", "items": ref("Rejected")}},
)

PUT_FEATURE = operation(
    tag="features",
    summary="Declare a feature",
    scope="write",
    parameters=[FEATURE_PARAMETER],
    request_body=body(ref("FeatureDocument"), examples={"Support chat": FEATURE_EXAMPLE}),
    answers={
        200: answer(
            "It was there, and is now what the document says.", ref("Feature"), links=_TO_THE_FEATURE
        ),
        201: answer("It is new.", ref("Feature"), links=_TO_THE_FEATURE),
    },
    errors=OF_DECLARING,
)

LIST_FEATURES = operation(
    tag="features",
    summary="List features",
    scope="read",
    parameters=[CURSOR_PARAMETER],
    answers={200: answer("The team's features, by slug.", ref("FeaturePage"))},
    errors=["invalid_cursor"],
)

GET_FEATURE = operation(
    tag="features",
    summary="Read a feature",
    scope="read",
    parameters=[FEATURE_PARAMETER],
    answers={200: answer("The feature.", ref("Feature"))},
    errors=["unknown_feature"],
)

GET_STATUS = operation(
    tag="features",
    summary="Read the status of a milestone",
    scope="read",
    parameters=[
        FEATURE_PARAMETER,
        parameter("milestone", "May be left out where there is one.", MILESTONE),
        _ENVIRONMENT,
        _RELEASE,
        parameter("at", "The instant to look from; left out, now.", ANY_INSTANT),
        parameter(
            "window",
            "The range of percentiles_ms and components; left out, the objective's.",
            {"type": "string", "enum": list(WINDOWS)},
        ),
    ],
    answers={200: answer("The milestone's status.", ref("Status"))},
    errors=[
        "unknown_feature",
        "invalid_milestone",
        "milestone_required",
        "invalid_instant",
        "invalid_text",
        "invalid_window",
        "window_not_kept",
    ],
)

GET_TIMESERIES = operation(
    tag="features",
    summary="Read a time series",
    scope="read",
    parameters=[
        FEATURE_PARAMETER,
        parameter(
            "target",
            "What the series is of.",
            {
                "type": "string",
                "pattern": r"^(component:[^\x00]+|milestone:(first_token|complete))$",
                "examples": ["component:retrieval", "milestone:first_token"],
            },
            is_required=True,
        ),
        parameter("from", "Its beginning, aligned down to the step.", ANY_INSTANT, is_required=True),
        parameter("to", "Its end, exclusive, aligned up to the step.", ANY_INSTANT, is_required=True),
        _ENVIRONMENT,
        _RELEASE,
        parameter(
            "step",
            "Seconds; left out, the finest that is kept and gives at most 1000 points.",
            {"type": "integer", "enum": [60, 3600, 86400]},
        ),
    ],
    answers={200: answer("The time series.", ref("TimeSeries"))},
    errors=[
        "unknown_feature",
        "unknown_target",
        "invalid_instant",
        "invalid_range",
        "invalid_step",
        "invalid_text",
        "step_not_kept",
        "too_many_points",
    ],
)

ANNOTATION_EXAMPLE: dict[str, Any] = {
    "kind": "deploy",
    "text": "v412",
    "feature": "support-chat",
    "environment": "production",
    "at": "2026-11-21T20:00:00Z",
    "url": "https://ci.example.com/jobs/4711",
}

POST_ANNOTATION = operation(
    tag="annotations",
    summary="Mark a deploy or a note",
    scope=("ingest", "write"),
    parameters=[
        parameter(
            "Idempotency-Key",
            "The same key with the same payload within 24 h gives the same annotation. Keys are per team.",
            _IDEMPOTENCY_KEY,
            where="header",
        ),
    ],
    request_body=body(
        ref("AnnotationDocument"),
        examples={
            "Deploy": ANNOTATION_EXAMPLE,
            "Note on all features": {"kind": "note", "text": "Cache cleared"},
        },
    ),
    answers={
        200: answer("It was there already.", ref("Annotation"), headers=_IDEMPOTENT_REPLAY),
        201: answer("It is new.", ref("Annotation")),
    },
    errors=[
        "invalid_document",
        "invalid_annotation",
        "invalid_idempotency_key",
        "unknown_feature",
        "idempotency_key_reused",
        "too_many_annotations",
    ],
)

LIST_ANNOTATIONS = operation(
    tag="annotations",
    summary="List annotations",
    scope="read",
    parameters=[
        parameter("feature", "Those of this feature, and those about all of the team's.", SLUG_SCHEMA),
        parameter("environment", "Only this one; left out, all of them.", TEXT),
        parameter("from", "Those at or after this instant.", ANY_INSTANT),
        parameter("to", "Those before this instant.", ANY_INSTANT),
        CURSOR_PARAMETER,
    ],
    answers={200: answer("The team's annotations, the latest made first.", ref("AnnotationPage"))},
    errors=["unknown_feature", "invalid_cursor", "invalid_instant", "invalid_range", "invalid_text"],
)

DELETE_ANNOTATION = operation(
    tag="annotations",
    summary="Delete an annotation",
    scope="write",
    parameters=[
        parameter(
            "annotation_id",
            "Its id.",
            {"type": "integer", "minimum": 1},
            where="path",
        )
    ],
    answers={204: {"description": "It is gone. A release that was deleted does not appear again."}},
    errors=["unknown_annotation"],
)
