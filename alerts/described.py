"""The operations on channels and incidents, as the OpenAPI document tells of them."""

from __future__ import annotations

from typing import Any

from budgets.api.described import CURSOR_PARAMETER
from budgets.api.operations import TEXT, body, nullable, operation, parameter, ref
from budgets.api.schemas import SLUG_SCHEMA

from .channels.email import MAX_ADDRESSES
from .models import Incident, Severity
from .outbound import MAX_URL_CHARACTERS

MAX_NOTE_CHARACTERS = 5000

# What mail servers take without quotation marks. Spaces around it are dropped.
_ADDRESS = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,30}(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,30})*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$"
)

_OF_EVERY_CHANNEL: dict[str, Any] = {
    "name": {"readOnly": True, "description": "What an answer adds. It may come back and says nothing."},
    "min_severity": {"type": "string", "enum": list(Severity.values), "default": "ticket"},
    "enabled": {"type": "boolean", "default": True},
}


def _channel(
    kind: str, description: str, required: dict[str, Any], optional: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "object",
        "title": kind,
        "description": description,
        "required": ["kind", *required],
        "properties": {
            "kind": {"type": "string", "const": kind},
            **required,
            **optional,
            **_OF_EVERY_CHANNEL,
        },
        "additionalProperties": False,
    }


CHANNELS: dict[str, dict[str, Any]] = {
    "webhook": _channel(
        "webhook",
        "Messages signed as Standard Webhooks, to a public address.",
        {
            "url": {
                "type": "string",
                "pattern": r"^\s*[hH][tT][tT][pP][sS]?://[^\s\\\x00-\x1f\x7f]+\s*$",
                "maxLength": MAX_URL_CHARACTERS,
                "examples": ["https://hooks.example.com/latency"],
            }
        },
        {
            "secret": nullable(
                {
                    "type": "string",
                    "description": "whsec_ and 24 to 64 bytes in base64. Left out, it stays as it is, and is made for a "
                    "new channel: the answer shows it this once.",
                    "pattern": r"^\s*whsec_[A-Za-z0-9+/]{32,86}={0,2}\s*$",
                }
            )
        },
    ),
    "email": _channel(
        "email",
        "Mail in text and HTML, one conversation an incident, through the installation's mail server.",
        {
            "to": {
                "type": "array",
                "items": {"type": "string", "pattern": _ADDRESS, "maxLength": 254},
                "minItems": 1,
                "maxItems": MAX_ADDRESSES,
                "examples": [["oncall@example.com"]],
            }
        },
        {},
    ),
}
"""Kind → the schema of its document."""

SCHEMAS: dict[str, Any] = {
    "ChannelDocument": {"oneOf": list(CHANNELS.values())},
    "NoteDocument": {
        "type": "object",
        "properties": {
            "note": {**TEXT, "maxLength": MAX_NOTE_CHARACTERS, "description": "For the incident's history."}
        },
        "additionalProperties": False,
    },
}

_INCIDENT = parameter(
    "incident_id", "The incident's number.", {"type": "integer", "minimum": 1}, where="path"
)
_NOTE = body(
    ref("NoteDocument"), examples={"A note": {"note": "The index is being rebuilt."}}, is_required=False
)

PUT_CHANNEL = operation(
    tag="channels",
    summary="Save a channel",
    scope="write",
    parameters=[
        parameter(
            "name",
            "The channel's name within the team.",
            {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "pattern": r"^[^\x00/]*[^\s\x00/][^\x00/]*$",
            },
            where="path",
            example="on-call",
        )
    ],
    request_body=body(
        ref("ChannelDocument"),
        examples={
            "Webhook": {
                "kind": "webhook",
                "url": "https://hooks.example.com/latency",
                "min_severity": "page",
            },
            "Email": {"kind": "email", "to": ["oncall@example.com"]},
        },
    ),
    answers={
        200: {"description": "It was there, and is now what the document says."},
        201: {"description": "It is new. `secret` is shown this once, where it was made."},
    },
    errors=["invalid_document", "invalid_channel"],
)

LIST_INCIDENTS = operation(
    tag="incidents",
    summary="List incidents",
    scope="read",
    parameters=[
        parameter("state", "Only these.", {"type": "string", "enum": list(Incident.State.values)}),
        parameter("feature", "Only this feature's.", SLUG_SCHEMA),
        CURSOR_PARAMETER,
    ],
    answers={200: {"description": "The team's incidents, newest first."}},
    errors=["invalid_state", "invalid_cursor", "unknown_feature"],
)

GET_INCIDENT = operation(
    tag="incidents",
    summary="Read an incident",
    scope="read",
    parameters=[_INCIDENT],
    answers={200: {"description": "The incident."}},
    errors=["unknown_incident"],
)

ACKNOWLEDGE_INCIDENT = operation(
    tag="incidents",
    summary="Acknowledge an incident",
    scope="write",
    parameters=[_INCIDENT],
    request_body=_NOTE,
    answers={200: {"description": "The incident, acknowledged."}},
    errors=["unknown_incident", "invalid_note"],
)

RESOLVE_INCIDENT = operation(
    tag="incidents",
    summary="Resolve an incident",
    scope="write",
    parameters=[_INCIDENT],
    request_body=_NOTE,
    answers={200: {"description": "The incident, resolved."}},
    errors=["unknown_incident", "invalid_note"],
)
