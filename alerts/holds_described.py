"""The operations on silences, maintenance windows, schedules and escalation policies, as the OpenAPI document tells of them."""

from __future__ import annotations

from typing import Any

from budgets.api.described import CURSOR_PARAMETER
from budgets.api.operations import TEXT, body, nullable, operation, parameter, ref
from budgets.api.schemas import ANY_INSTANT

from . import fields, maintenance, matchers, overrides, policies, recurrences, schedules, silences
from .rotas import WEEKDAYS

_NAME = parameter(
    "name",
    "The name within the team.",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\x00/]*[^\s\x00/][^\x00/]*$"},
    where="path",
    example="primary",
)
_READ_ONLY: dict[str, Any] = {
    "readOnly": True,
    "description": "What an answer adds. It may come back and says nothing.",
}
_TIME = {"type": "string", "pattern": f"^{fields.TIME.pattern}$", "examples": ["09:00"]}
_TIME_ZONE = {
    "type": "string",
    "description": "IANA name of a time zone.",
    "examples": ["Europe/Berlin"],
    "maxLength": 100,
}
_DAY = {"type": "string", "format": "date", "examples": ["2026-11-23"]}
_REASON = {**TEXT, "maxLength": silences.MAX_REASON_CHARACTERS}


def _object(
    required: dict[str, Any], optional: dict[str, Any], read_only: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional, **dict.fromkeys(read_only, _READ_ONLY)},
        "additionalProperties": False,
    }


def _matchers(least: int) -> dict[str, Any]:
    return {
        "type": "array",
        "items": ref("Matcher"),
        "minItems": least,
        "maxItems": matchers.MAX_MATCHERS,
        "description": "All must fit."
        if least
        else "All must fit; without any every incident of the team does.",
    }


SCHEMAS: dict[str, Any] = {
    "Matcher": {
        **_object(
            {
                "name": {"type": "string", "enum": list(matchers.NAMES)},
                "operator": {"type": "string", "enum": list(matchers.OPERATORS)},
                "value": {**TEXT, "maxLength": matchers.MAX_VALUE_CHARACTERS},
            },
            {},
        ),
        "description": "= and != compare whole texts, ~ and !~ patterns: * is any text, | stands between alternatives. "
        'An incident about a component has the milestone "", one about a milestone the component "".',
    },
    "SilenceDocument": _object(
        {
            "matchers": _matchers(1),
            "reason": {**_REASON, "minLength": 1},
            "ends_at": {**ANY_INSTANT, "description": f"At most {silences.MAX_DAYS} days after the start."},
        },
        {"starts_at": {**nullable(ANY_INSTANT), "description": "Left out, or past: now."}},
        silences.READ_ONLY_FIELDS,
    ),
    "MaintenanceWindowDocument": _object(
        {
            "time_zone": _TIME_ZONE,
            "starts_on": {**_DAY, "description": "Of the first, in its time zone."},
            "starts_at": {**_TIME, "description": "Of each, in its time zone, whatever clocks do."},
            "duration_minutes": {"type": "integer", "minimum": 1, "maximum": maintenance.MAX_MINUTES},
        },
        {
            "recurrence": {
                **TEXT,
                "maxLength": recurrences.MAX_TEXT_CHARACTERS,
                "default": "",
                "description": "RRULE of RFC 5545 over days: FREQ of DAILY, WEEKLY, MONTHLY or YEARLY, INTERVAL, COUNT or "
                "UNTIL, BYDAY, BYMONTHDAY, BYMONTH, BYSETPOS, WKST. Empty: once.",
                "examples": ["FREQ=WEEKLY;BYDAY=SU"],
            },
            "matchers": _matchers(0),
            "reason": {**_REASON, "default": ""},
            "enabled": {"type": "boolean", "default": True},
        },
        maintenance.READ_ONLY_FIELDS,
    ),
    "ScheduleDocument": _object(
        {
            "time_zone": _TIME_ZONE,
            "starts_on": {**_DAY, "description": "The day of the first hand-over; nobody is on call before."},
            "hands_over_at": _TIME,
            "people": {
                "type": "array",
                "items": nullable({**TEXT, "maxLength": 254}),
                "minItems": 1,
                "maxItems": schedules.MAX_PLACES,
                "description": "E-mail addresses of members, in the order of their turns; null is a gap.",
                "examples": [["ada@example.com", "bob@example.com"]],
            },
        },
        {
            "turn_days": {
                "type": "integer",
                "minimum": 1,
                "maximum": schedules.MAX_TURN_DAYS,
                "default": 7,
            },
            "hours": {
                "type": "array",
                "maxItems": schedules.MAX_HOURS,
                "description": "Left out or empty: around the clock. A `to` that is not after `from` is that of the next day.",
                "items": _object(
                    {
                        "days": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(WEEKDAYS)},
                            "minItems": 1,
                        },
                        "from": _TIME,
                        "to": {
                            "type": "string",
                            "pattern": f"^({fields.TIME.pattern}|24:00)$",
                            "examples": ["17:00"],
                        },
                    },
                    {},
                ),
            },
        },
        schedules.READ_ONLY_FIELDS,
    ),
    "OverrideDocument": _object(
        {
            "person": {
                **nullable({**TEXT, "maxLength": 254}),
                "description": "E-mail address of a member; null puts nobody on call.",
                "examples": ["bob@example.com"],
            },
            "ends_at": {
                **ANY_INSTANT,
                "description": f"To come, and at most {overrides.MAX_OVERRIDE.days} days after the start.",
            },
        },
        {
            "starts_at": {
                **nullable(ANY_INSTANT),
                "description": f"Left out: now. At most {overrides.MAX_DAYS_AHEAD} days ahead.",
            }
        },
        overrides.READ_ONLY_FIELDS,
    ),
    "EscalationPolicyDocument": _object(
        {
            "steps": {
                "type": "array",
                "minItems": 1,
                "maxItems": policies.MAX_STEPS,
                "items": _object(
                    {
                        "notify": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": policies.MAX_RECIPIENTS,
                            "items": _object(
                                {
                                    "kind": {"type": "string", "enum": list(policies.RECIPIENTS)},
                                    "name": {
                                        **TEXT,
                                        "maxLength": 254,
                                        "description": "A person's is their e-mail address.",
                                    },
                                },
                                {},
                            ),
                        }
                    },
                    {
                        "wait_minutes": {
                            "type": "integer",
                            "minimum": 1,
                            "maximum": policies.MAX_WAIT_MINUTES,
                            "default": 5,
                            "description": "Until the next step, and after the last until the next round.",
                        }
                    },
                ),
            }
        },
        {
            "matchers": _matchers(0),
            "repetitions": {
                "type": "integer",
                "minimum": 0,
                "maximum": policies.MAX_REPETITIONS,
                "default": 0,
                "description": "How often the steps begin anew after the last.",
            },
            "reminder_minutes": {
                **nullable(
                    {"type": "integer", "minimum": policies.MIN_MINUTES, "maximum": policies.MAX_MINUTES}
                ),
                "default": 60,
                "description": "From one reminder of who acknowledged to the next; null: none.",
            },
            "unacknowledge_minutes": {
                **nullable(
                    {"type": "integer", "minimum": policies.MIN_MINUTES, "maximum": policies.MAX_MINUTES}
                ),
                "default": None,
                "description": "After so long without a word from who acknowledged it is open again; null: never.",
            },
            "enabled": {"type": "boolean", "default": True},
            "position": nullable({"type": "integer", "minimum": 0, "maximum": policies.MAX_POSITION}),
        },
        policies.READ_ONLY_FIELDS,
    ),
}

_SILENCE = parameter("silence_id", "The silence's number.", {"type": "integer", "minimum": 1}, where="path")

LIST_SILENCES = operation(
    tag="silences",
    summary="List silences",
    scope="read",
    parameters=[CURSOR_PARAMETER],
    answers={200: {"description": "The team's silences, newest first, those that are over too."}},
    errors=["invalid_cursor"],
)
CREATE_SILENCE = operation(
    tag="silences",
    summary="Make a silence",
    scope="write",
    request_body=body(
        ref("SilenceDocument"),
        examples={
            "One feature": {
                "matchers": [{"name": "feature", "operator": "=", "value": "support-chat"}],
                "reason": "Load test of the index",
                "ends_at": "2026-11-21T22:00:00Z",
            }
        },
    ),
    answers={201: {"description": "The silence."}},
    errors=["invalid_document", "invalid_silence"],
)
GET_SILENCE = operation(
    tag="silences",
    summary="Read a silence",
    scope="read",
    parameters=[_SILENCE],
    answers={200: {"description": "The silence."}},
    errors=["unknown_silence"],
)
END_SILENCE = operation(
    tag="silences",
    summary="End a silence",
    scope="write",
    parameters=[_SILENCE],
    answers={
        200: {"description": "The silence, over. It stays readable, and ending it again changes nothing."}
    },
    errors=["unknown_silence"],
)


def _listing(tag: str, what: str) -> dict[str, Any]:
    return operation(
        tag=tag,
        summary=f"List {what}",
        scope="read",
        parameters=[CURSOR_PARAMETER],
        answers={200: {"description": f"The team's {what}, by name."}},
        errors=["invalid_cursor"],
    )


def _reading(tag: str, what: str, code: str) -> dict[str, Any]:
    return operation(
        tag=tag,
        summary=f"Read {what}",
        scope="read",
        parameters=[_NAME],
        answers={200: {"description": "As it is declared."}},
        errors=[code],
    )


def _saving(tag: str, what: str, document: str, code: str, example: dict[str, Any]) -> dict[str, Any]:
    return operation(
        tag=tag,
        summary=f"Save {what}",
        scope="write",
        parameters=[_NAME],
        request_body=body(ref(document), examples={"An example": example}),
        answers={
            200: {"description": "It was there, and is now what the document says."},
            201: {"description": "It is new."},
        },
        errors=["invalid_document", code],
    )


def _deleting(tag: str, what: str, *codes: str) -> dict[str, Any]:
    return operation(
        tag=tag,
        summary=f"Delete {what}",
        scope="write",
        parameters=[_NAME],
        answers={204: {"description": "It is gone."}},
        errors=codes,
    )


_WINDOWS, _WINDOW = "maintenance windows", "a maintenance window"
LIST_WINDOWS = _listing(_WINDOWS, _WINDOWS)
GET_WINDOW = _reading(_WINDOWS, _WINDOW, "unknown_maintenance_window")
PUT_WINDOW = _saving(
    _WINDOWS,
    _WINDOW,
    "MaintenanceWindowDocument",
    "invalid_maintenance_window",
    {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-22",
        "starts_at": "02:00",
        "duration_minutes": 120,
        "recurrence": "FREQ=WEEKLY;BYDAY=SU",
        "matchers": [{"name": "component", "operator": "=", "value": "retrieval"}],
        "reason": "The index is rebuilt",
    },
)
DELETE_WINDOW = _deleting(_WINDOWS, _WINDOW, "unknown_maintenance_window")

_SCHEDULES, _SCHEDULE = "schedules", "an on-call schedule"
LIST_SCHEDULES = _listing(_SCHEDULES, "on-call schedules")
GET_SCHEDULE = _reading(_SCHEDULES, _SCHEDULE, "unknown_schedule")
PUT_SCHEDULE = _saving(
    _SCHEDULES,
    _SCHEDULE,
    "ScheduleDocument",
    "invalid_schedule",
    {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-23",
        "hands_over_at": "09:00",
        "turn_days": 7,
        "people": ["ada@example.com", "bob@example.com"],
    },
)
DELETE_SCHEDULE = _deleting(_SCHEDULES, _SCHEDULE, "unknown_schedule", "named_by_policy")
LIST_OVERRIDES = operation(
    tag=_SCHEDULES,
    summary="List overrides",
    scope="read",
    parameters=[_NAME, CURSOR_PARAMETER],
    answers={200: {"description": "The schedule's overrides, newest first, those that are over too."}},
    errors=["unknown_schedule", "invalid_cursor"],
)
CREATE_OVERRIDE = operation(
    tag=_SCHEDULES,
    summary="Override a schedule",
    scope="write",
    parameters=[_NAME],
    request_body=body(
        ref("OverrideDocument"),
        examples={
            "Bob takes a night": {
                "person": "bob@example.com",
                "starts_at": "2026-11-23T17:00:00+01:00",
                "ends_at": "2026-11-24T09:00:00+01:00",
            }
        },
    ),
    answers={201: {"description": "The override. Of several at once the one that was made last holds."}},
    errors=["unknown_schedule", "invalid_document", "invalid_override"],
)
DELETE_OVERRIDE = operation(
    tag=_SCHEDULES,
    summary="Take an override back",
    scope="write",
    parameters=[
        _NAME,
        parameter("override_id", "The override's number.", {"type": "integer", "minimum": 1}, where="path"),
    ],
    answers={
        204: {
            "description": "It holds no more. One that had begun ends now and stays listed; one that was over stays as it was."
        }
    },
    errors=["unknown_schedule", "unknown_override"],
)
GET_ON_CALL = operation(
    tag=_SCHEDULES,
    summary="Who is on call",
    scope="read",
    parameters=[_NAME, parameter("at", "The instant; left out, now.", ANY_INSTANT)],
    answers={200: {"description": "Who is on call, until when, and why; `person` is null where nobody is."}},
    errors=["unknown_schedule", "invalid_instant"],
)

_POLICIES, _POLICY = "escalation policies", "an escalation policy"
LIST_POLICIES = _listing(_POLICIES, _POLICIES)
GET_POLICY = _reading(_POLICIES, _POLICY, "unknown_escalation_policy")
PUT_POLICY = _saving(
    _POLICIES,
    _POLICY,
    "EscalationPolicyDocument",
    "invalid_escalation_policy",
    {
        "matchers": [{"name": "severity", "operator": "=", "value": "page"}],
        "steps": [
            {"notify": [{"kind": "schedule", "name": "primary"}], "wait_minutes": 5},
            {"notify": [{"kind": "channel", "name": "on-call"}], "wait_minutes": 15},
        ],
        "repetitions": 2,
    },
)
DELETE_POLICY = _deleting(_POLICIES, _POLICY, "unknown_escalation_policy")
