"""The OpenAPI 3.1 document: what ninja knows of each operation, and all that it cannot know."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from django.conf import settings
from ninja import NinjaAPI

from alerts.described import SCHEMAS as ALERTS_SCHEMAS
from alerts.holds_described import SCHEMAS as HOLDS_SCHEMAS
from alerts.rules_described import SCHEMAS as RULES_SCHEMAS
from budgets.api.operations import answer
from budgets.api.schemas import SCHEMAS as BUDGETS_SCHEMAS

TITLE = "Latency Dashboard"
_DESCRIPTION = """\
Latency budgets of user-facing features: declare them, push measurements, read status and time series, and take
care of incidents.

Every error has one shape: `{"error": {"code", "message", "fields"}}`. `code` is for programs; those that an operation
can answer with are listed with it. Instants come as RFC 3339 with a zone or as Unix seconds; answers give RFC 3339 in
UTC. Names end in their unit: `_ms`, `_ratio`, `_at`, `_days`.
"""
_TAGS = {
    "measurements": "What services push.",
    "features": "User-facing flows, their latency budgets, and how they are doing.",
    "annotations": "What happened: deploys, notes, and releases that appeared by themselves.",
    "incidents": "What a person must look at.",
    "rules": "What a feature's alerts watch.",
    "channels": "Where a team's incidents are told.",
    "silences": "What holds notifications back for once.",
    "maintenance windows": "What holds notifications back again and again.",
    "schedules": "Who is on call when.",
    "escalation policies": "Whom an incident goes to, step after step.",
    "service": "Whether the service itself is well. No key is needed.",
}
_SCOPES = {
    "ingest": "push measurements, mark deploys and notes",
    "read": "read features, status, time series, annotations, incidents and channels",
    "write": "declare features, save channels, silences, schedules and policies, acknowledge and resolve incidents",
}


@cache
def openapi_document(api: NinjaAPI) -> dict[str, Any]:
    """The document of the API and of the service's own addresses, as JSON's own types."""
    # Through JSON: ninja's statuses are numbers, and what modules share must not be changed here.
    found = json.loads(json.dumps(api.get_openapi_schema()))
    for path in found["paths"].values():
        for operation in path.values():
            _complete(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": "1",
            "summary": f"Release {settings.VERSION}",
            "description": _DESCRIPTION,
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": {**found["paths"], **_service_paths()},
        "components": {
            "schemas": {
                **found["components"]["schemas"],
                **BUDGETS_SCHEMAS,
                **ALERTS_SCHEMAS,
                **HOLDS_SCHEMAS,
                **RULES_SCHEMAS,
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "ld_<prefix>_<secret>",
                    "description": "A key belongs to a team and has one or more scopes.\n\n"
                    + "\n".join(f"- `{scope}`: {what}" for scope, what in _SCOPES.items()),
                }
            },
        },
    }


def _complete(operation: dict[str, Any]) -> None:
    """Puts what we say of parameters in place of what ninja says, and names the scope."""
    given = operation.pop("x-scope")
    scopes = [given] if isinstance(given, str) else given
    parameters = {(one["in"], one["name"]): one for one in operation["parameters"]}
    operation["parameters"] = list(parameters.values())
    # Alternatives: one of them is enough.
    operation["security"] = [{"key": [scope]} for scope in scopes]
    named = " or ".join(f"`{scope}`" for scope in scopes)
    operation["description"] += f"\n\nNeeds a key with the scope {named}."
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _service_paths() -> dict[str, Any]:
    state = {"type": "string"}
    ready = {
        "type": "object",
        "required": ["status", "checks", "last_sweep_age_s", "version"],
        "properties": {
            "status": {"type": "string", "enum": ["ok", "unavailable"]},
            "checks": {
                "type": "object",
                "description": "ok, or what is wrong.",
                "required": ["database", "broker", "sweep"],
                "properties": {"database": state, "broker": state, "sweep": state},
            },
            "last_sweep_age_s": {
                "type": ["number", "null"],
                "description": "Of the sweep that is longest ago.",
            },
            "version": {"type": "string"},
        },
    }
    alive = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "const": "ok"}},
    }
    return {
        "/healthz": {
            "get": _service_operation(
                "getHealth", "Ask whether the process answers", {"200": answer("It does.", alive)}
            )
        },
        "/readyz": {
            "get": _service_operation(
                "getReadiness",
                "Ask whether it can do its work",
                {
                    "200": answer("Database and broker answer, and every sweep ran within a minute.", ready),
                    "503": answer("Something of it is not so; `checks` says what.", ready),
                },
            )
        },
    }


def _service_operation(operation_id: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["service"],
        "security": [],
        "parameters": [],
        "responses": answers,
    }
