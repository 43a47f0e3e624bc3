"""The operations on channels and incidents, as the OpenAPI document tells of them."""

from __future__ import annotations

from typing import Any

from budgets.api.described import CURSOR_PARAMETER
from budgets.api.operations import TEXT, body, nullable, operation, parameter, ref
from budgets.api.schemas import SLUG_SCHEMA

from .channels import SERVICES, Field
from .channels.email import MAX_ADDRESSES
from .channels.fields import URL_PATTERN
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
    "leads_to": {"readOnly": True, "description": "What an answer adds, like name."},
    "min_severity": {"type": "string", "enum": list(Severity.values), "default": "ticket"},
    "enabled": {"type": "boolean", "default": True},
    "owner": nullable(
        {
            "type": "string",
            "description": "E-mail address of the member of the team whose own it is: it is told of what a schedule or "
            "an escalation policy has for this person, and of nothing else. Left out, it is the team's.",
            "pattern": _ADDRESS,
            "maxLength": 254,
            "examples": ["kim@example.com"],
        }
    ),
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


def _schema_of(field: Field) -> dict[str, Any]:
    """A secret may be left out of a change; the service says so where it is missing."""
    kept = "Secret: answers leave it out. Left out of a change, it stays as it is."
    if not field.is_required:
        kept = f"{kept[:-1]}; empty, it is removed."
    schema: dict[str, Any] = {
        "type": "string",
        "title": field.label,
        "maxLength": field.max_characters,
        "description": " ".join(
            filter(
                None,
                [
                    f"{field.expected[0].upper()}{field.expected[1:]}.",
                    kept if field.is_secret else "",
                    field.hint,
                ],
            )
        ),
    }
    if field.choices:
        schema |= {"enum": [value for value, _ in field.choices], "default": field.choices[0][0]}
        del schema["maxLength"]
    else:
        may_be_empty = "?" if field.is_secret and not field.is_required else ""
        schema["pattern"] = rf"^\s*({field.pattern or URL_PATTERN}){may_be_empty}\s*$"
    if field.is_number_allowed:
        return {
            "oneOf": [
                schema,
                {
                    "type": "integer",
                    "minimum": 0 if "-?" not in str(field.pattern) else -(10**18),
                    "maximum": 10**18 - 1,
                },
            ]
        }
    return schema


def _service(kind: str, description: str) -> dict[str, Any]:
    fields = SERVICES[kind].fields
    optional = {one.name: nullable(_schema_of(one)) for one in fields if one.is_secret or not one.is_required}
    required = {one.name: _schema_of(one) for one in fields if one.name not in optional}
    return _channel(kind, description, required, optional)


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
    "slack": _service("slack", "Slack, Mattermost or Rocket.Chat, by an incoming webhook."),
    "teams": _service("teams", "Microsoft Teams, by a workflow's webhook, as an Adaptive Card."),
    "discord": _service("discord", "Discord, by a channel's webhook, as an embed."),
    "telegram": _service("telegram", "Telegram, by a bot."),
    "pagerduty": _service("pagerduty", "PagerDuty, Events API v2: an alert for each incident."),
    "opsgenie": _service("opsgenie", "Opsgenie, Alert API: an alert for each incident."),
    "alertmanager": _service(
        "alertmanager",
        "Prometheus Alertmanager, API v2: an alert for each incident, sent again while it is open.",
    ),
    "apprise": _service("apprise", "Services that the library Apprise knows and that the operator allows."),
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
    "RequiredNoteDocument": {
        "type": "object",
        "required": ["note"],
        "properties": {
            "note": {
                **TEXT,
                "minLength": 1,
                "maxLength": MAX_NOTE_CHARACTERS,
                "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
                "description": "For the incident's history.",
            }
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

_CHANNEL_NAME = parameter(
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

LIST_CHANNELS = operation(
    tag="channels",
    summary="List channels",
    scope="read",
    parameters=[CURSOR_PARAMETER],
    answers={200: {"description": "The team's channels by name, without what is secret."}},
    errors=["invalid_cursor"],
)

GET_CHANNEL = operation(
    tag="channels",
    summary="Read a channel",
    scope="read",
    parameters=[_CHANNEL_NAME],
    answers={200: {"description": "The channel, without what is secret."}},
    errors=["unknown_channel"],
)

DELETE_CHANNEL = operation(
    tag="channels",
    summary="Delete a channel",
    scope="write",
    parameters=[_CHANNEL_NAME],
    answers={204: {"description": "It is told of nothing more; its secrets are forgotten."}},
    errors=["unknown_channel", "named_by_policy"],
)

PUT_CHANNEL = operation(
    tag="channels",
    summary="Save a channel",
    scope="write",
    parameters=[_CHANNEL_NAME],
    request_body=body(
        ref("ChannelDocument"),
        examples={
            "Webhook": {
                "kind": "webhook",
                "url": "https://hooks.example.com/latency",
                "min_severity": "page",
            },
            "Email": {"kind": "email", "to": ["oncall@example.com"]},
            "Slack": {"kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/token"},
            "PagerDuty": {
                "kind": "pagerduty",
                "routing_key": "0123456789abcdef0123456789abcdef",
                "region": "eu",
                "min_severity": "page",
            },
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

NOTE_INCIDENT = operation(
    tag="incidents",
    summary="Keep a note with an incident",
    scope="write",
    parameters=[_INCIDENT],
    request_body=body(ref("RequiredNoteDocument"), examples={"A note": {"note": "Rolling back v412."}}),
    answers={200: {"description": "The incident, with the note."}},
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
