"""Channels and incidents over HTTP: a router of the API, mounted at /api/v1/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Router, Schema
from ninja.responses import Response

from budgets.api.auth import BearerKey
from budgets.api.pagination import paginate
from budgets.errors import Refusal
from budgets.models import Feature, IngestKey

from . import described, incidents
from .channel_settings import Saved, save_channel
from .channels import KINDS
from .described import MAX_NOTE_CHARACTERS
from .documents import incident_answer
from .models import Incident, IncidentEvent, Severity

router = Router()


class ChannelAnswer(Schema):
    """A channel. A webhook has `url`, and `secret` once, where it was made by this request; email has `to`."""

    name: str
    kind: str = Field(json_schema_extra={"enum": list(KINDS)})
    url: str | None = None
    to: list[str] | None = None
    min_severity: Severity
    enabled: bool
    secret: str | None = None


class Cause(Schema):
    """A component that takes longer than its allocation: its p99, which is a lower bound among timeouts."""

    component: str
    allocated_ms: int | float
    observed_ms: int | float


class EventAnswer(Schema):
    """One step of an incident. `actor` is null where the rules took it."""

    kind: IncidentEvent.Kind
    at: str
    actor: str | None
    reason: str
    note: str
    details: dict[str, Any]


class IncidentAnswer(Schema):
    """Something a person must look at."""

    id: int
    feature: str
    environment: str
    milestone: str | None
    component: str | None
    severity: Severity
    rule: str
    summary: str
    cause: Cause | None
    burn_rate: float | None
    runbook_url: str | None
    opened_at: str
    url: str
    state: Incident.State
    acknowledged_at: str | None
    resolved_at: str | None
    events: list[EventAnswer]


class IncidentPage(Schema):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[IncidentAnswer]
    next_cursor: str | None


@router.put(
    "/channels/{name}",
    auth=BearerKey("write"),
    response={200: ChannelAnswer, 201: ChannelAnswer},
    exclude_none=True,
    operation_id="putChannel",
    openapi_extra=described.PUT_CHANNEL,
)
def put_channel(request: HttpRequest, name: str) -> Response:
    """Makes the team's channel what the body says."""
    key = _key(request)
    saved = save_channel(
        team=key.team, name=name, document=_body(request), actor=f"key {key.name}", now=timezone.now()
    )
    return Response(_channel_document(saved), status=201 if saved.is_created else 200)


@router.get(
    "/incidents",
    auth=BearerKey("read"),
    response=IncidentPage,
    operation_id="listIncidents",
    openapi_extra=described.LIST_INCIDENTS,
)
def list_incidents(
    request: HttpRequest, state: str | None = None, feature: str | None = None, cursor: str | None = None
) -> dict[str, Any]:
    """The team's incidents, newest first."""
    team = _key(request).team
    found = Incident.objects.filter(feature__team=team)
    if state is not None:
        if state not in Incident.State.values:
            raise Refusal(
                "invalid_state",
                f"state must be one of {', '.join(Incident.State.values)}, got {state!r:.100}.",
                fields={"state": [f"One of {', '.join(Incident.State.values)}."]},
            )
        found = found.filter(state=state)
    if feature is not None:
        if "\0" in feature or not Feature.objects.filter(team=team, slug=feature).exists():
            raise Refusal(
                "unknown_feature", f"There is no feature {feature!r:.210} in team {team.slug!r}.", status=404
            )
        found = found.filter(feature__slug=feature)
    found = found.select_related("feature", "component").prefetch_related("events")
    return paginate(
        found, cursor, is_descending=True, describe=lambda page: [incident_answer(one) for one in page]
    )


@router.get(
    "/incidents/{incident_id}",
    auth=BearerKey("read"),
    response=IncidentAnswer,
    operation_id="getIncident",
    openapi_extra=described.GET_INCIDENT,
)
def get_incident(request: HttpRequest, incident_id: str) -> dict[str, Any]:
    """One incident with its events."""
    return incident_answer(_incident(request, incident_id))


@router.post(
    "/incidents/{incident_id}/acknowledge",
    auth=BearerKey("write"),
    response=IncidentAnswer,
    operation_id="acknowledgeIncident",
    openapi_extra=described.ACKNOWLEDGE_INCIDENT,
)
def acknowledge_incident(request: HttpRequest, incident_id: str) -> dict[str, Any]:
    """Notes that somebody has it; repeating is harmless."""
    return _take_step(incidents.acknowledge, request, incident_id)


@router.post(
    "/incidents/{incident_id}/resolve",
    auth=BearerKey("write"),
    response=IncidentAnswer,
    operation_id="resolveIncident",
    openapi_extra=described.RESOLVE_INCIDENT,
)
def resolve_incident(request: HttpRequest, incident_id: str) -> dict[str, Any]:
    """Ends it; repeating is harmless."""
    return _take_step(incidents.resolve, request, incident_id)


def _take_step(verb: Callable[..., Incident], request: HttpRequest, incident_id: str) -> dict[str, Any]:
    found, note = _incident(request, incident_id), _note(request)
    verb(incident_id=found.pk, actor=f"key {_key(request).name}", note=note, now=timezone.now())
    return incident_answer(_incident(request, incident_id))


def _key(request: HttpRequest) -> IngestKey:
    key: IngestKey = request.auth  # type: ignore[attr-defined]
    return key


def _incident(request: HttpRequest, incident_id: str) -> Incident:
    """The team's incident. Raises Refusal("unknown_incident", 404), also where it is another team's."""
    team = _key(request).team
    found = Incident.objects.filter(feature__team=team).select_related("feature", "component")
    is_id = incident_id.isascii() and incident_id.isdigit() and len(incident_id) <= 18
    incident = found.prefetch_related("events").filter(pk=int(incident_id)).first() if is_id else None
    if incident is None:
        raise Refusal(
            "unknown_incident", f"There is no incident {incident_id!r:.50} in team {team.slug!r}.", status=404
        )
    return incident


def _body(request: HttpRequest) -> Any:
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was saved.") from error


def _note(request: HttpRequest) -> str:
    document = _body(request) if request.body.strip() else {}
    note = document.get("note", "") if isinstance(document, dict) and document.keys() <= {"note"} else None
    if not isinstance(note, str) or "\0" in note or len(note) > MAX_NOTE_CHARACTERS:
        raise Refusal(
            "invalid_note",
            f'The body is {{"note": "…"}} with at most {MAX_NOTE_CHARACTERS} characters, or empty. '
            "Nothing was changed.",
            fields={"note": [f"A text of at most {MAX_NOTE_CHARACTERS} characters, without U+0000."]},
        )
    return note


def _channel_document(saved: Saved) -> dict[str, Any]:
    channel = saved.channel
    document = {
        "name": channel.name,
        "kind": channel.kind,
        **{field: channel.config[field] for field in ("url", "to") if field in channel.config},
        "min_severity": channel.min_severity,
        "enabled": channel.is_enabled,
    }
    return {**document, "secret": saved.secret} if saved.secret else document
