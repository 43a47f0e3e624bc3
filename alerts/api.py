"""Channels and incidents over HTTP: a router of the API, mounted at /api/v1/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema
from ninja.responses import Response

from budgets.api.auth import BearerKey
from budgets.api.pagination import paginate
from budgets.errors import Refusal
from budgets.models import Feature

from . import described, incidents
from .channel_settings import Saved, delete_channel, save_channel
from .channels import KINDS
from .described import MAX_NOTE_CHARACTERS
from .documents import LATEST_IN_LIST, incident_answer
from .models import Channel, Incident, IncidentEvent, Severity
from .requests import actor_of, body_of, key_of, named

router = Router()


class ChannelAnswer(Schema):
    """A channel, without what is secret of it. What a kind has beside is left out where it does not apply.

    `owner` is the e-mail address of the person whose own it is. A webhook's `url` stands in the answer to who
    saved it, and its `secret` once, where that request made it.
    """

    name: str
    kind: str = Field(json_schema_extra={"enum": list(KINDS)})
    leads_to: str
    min_severity: Severity
    enabled: bool
    owner: str | None = None
    to: list[str] | None = None
    region: str | None = None
    chat_id: str | None = None
    topic_id: str | None = None
    api_url: str | None = None
    url: str | None = None
    secret: str | None = None


class ChannelPage(Schema):
    """By name; `next_cursor` is null on the last page."""

    items: list[ChannelAnswer]
    next_cursor: str | None


class Cause(Schema):
    """A component that takes longer than its allocation: its p99, which is a lower bound among timeouts."""

    component: str
    allocated_ms: int | float | None
    observed_ms: int | float


class EventAnswer(Schema):
    """One step of an incident. `actor` is null where the rules took it."""

    kind: IncidentEvent.Kind
    at: str
    actor: str | None
    reason: str
    note: str
    details: dict[str, Any]


class ToldChannel(Schema):
    """Who was told, and why they were."""

    channel: str
    because: str


class LeftOut(Schema):
    """Who was not told, and why not."""

    name: str
    because: str


class ToldAnswer(Schema):
    """A step that was to be told: to whom it was, to whom not, or what held it back (until when, where known)."""

    at: str
    event: str
    told: list[ToldChannel]
    left_out: list[LeftOut]
    held_by: str | None
    held_until: str | None


class IncidentAnswer(Schema):
    """Something a person must look at. In a list, `events` and `told` have their first entry and the latest 20;
    `events_left_out` and `told_left_out` count those between."""

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
    reopened_at: str | None
    is_flapping: bool
    attribution: dict[str, Any] | None
    changes: list[dict[str, Any]]
    events: list[EventAnswer]
    events_left_out: int
    told: list[ToldAnswer]
    told_left_out: int


class IncidentPage(Schema):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[IncidentAnswer]
    next_cursor: str | None


@router.get(
    "/channels",
    auth=BearerKey("read"),
    response=ChannelPage,
    operation_id="listChannels",
    openapi_extra=described.LIST_CHANNELS,
)
def list_channels(request: HttpRequest, cursor: str | None = None) -> Response:
    """The team's channels by name, personal ones among them."""
    kept = Channel.objects.kept().filter(team=key_of(request).team).select_related("owner")
    page = paginate(
        kept, cursor, field="name", describe=lambda found: [channel_document(one) for one in found]
    )
    return Response(page)


@router.get(
    "/channels/{name}",
    auth=BearerKey("read"),
    response=ChannelAnswer,
    operation_id="getChannel",
    openapi_extra=described.GET_CHANNEL,
)
def get_channel(request: HttpRequest, name: str) -> Response:
    """One channel."""
    return Response(channel_document(_channel(request, name)))


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
    saved = save_channel(
        team=key_of(request).team,
        name=name,
        document=body_of(request),
        actor=actor_of(request),
        now=timezone.now(),
    )
    return Response(_saved_document(saved), status=201 if saved.is_created else 200)


@router.delete(
    "/channels/{name}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteChannel",
    openapi_extra=described.DELETE_CHANNEL,
)
def delete_channel_by_name(request: HttpRequest, name: str) -> HttpResponse:
    """Ends the channel; its name is free again. What it was sent can still be read on its page."""
    found = _channel(request, name)
    delete_channel(channel_id=found.pk, actor=actor_of(request), now=timezone.now())
    return HttpResponse(status=204)


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
    """The team's incidents, newest first, each with its first step and the latest; all of them come with one incident."""
    team = key_of(request).team
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
        found,
        cursor,
        is_descending=True,
        describe=lambda page: [incident_answer(one, latest=LATEST_IN_LIST) for one in page],
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


@router.post(
    "/incidents/{incident_id}/note",
    auth=BearerKey("write"),
    response=IncidentAnswer,
    operation_id="noteIncident",
    openapi_extra=described.NOTE_INCIDENT,
)
def note_incident(request: HttpRequest, incident_id: str) -> dict[str, Any]:
    """Keeps a word with it; nobody is told.

    From whoever acknowledged it, it is the sign of life that a policy with `unacknowledge_minutes` waits for.
    """
    found, text = _incident(request, incident_id), _note(request)
    if not text.strip():
        said = f"A text of 1 to {MAX_NOTE_CHARACTERS} characters, without U+0000."
        raise Refusal(
            "invalid_note",
            f'The body is {{"note": "…"}} with 1 to {MAX_NOTE_CHARACTERS} characters. Nothing was changed.',
            fields={"note": [said]},
        )
    incidents.note(incident_id=found.pk, actor=actor_of(request), text=text, now=timezone.now())
    return incident_answer(_incident(request, incident_id))


def _take_step(verb: Callable[..., Incident], request: HttpRequest, incident_id: str) -> dict[str, Any]:
    found, note = _incident(request, incident_id), _note(request)
    verb(incident_id=found.pk, actor=actor_of(request), note=note, now=timezone.now())
    return incident_answer(_incident(request, incident_id))


def _incident(request: HttpRequest, incident_id: str) -> Incident:
    """The team's incident. Raises Refusal("unknown_incident", 404), also where it is another team's."""
    team = key_of(request).team
    found = Incident.objects.filter(feature__team=team).select_related("feature", "component")
    is_id = incident_id.isascii() and incident_id.isdigit() and len(incident_id) <= 18
    incident = found.prefetch_related("events").filter(pk=int(incident_id)).first() if is_id else None
    if incident is None:
        raise Refusal(
            "unknown_incident", f"There is no incident {incident_id!r:.50} in team {team.slug!r}.", status=404
        )
    return incident


def _note(request: HttpRequest) -> str:
    document = body_of(request) if request.body.strip() else {}
    note = document.get("note", "") if isinstance(document, dict) and document.keys() <= {"note"} else None
    if not isinstance(note, str) or "\0" in note or len(note) > MAX_NOTE_CHARACTERS:
        raise Refusal(
            "invalid_note",
            f'The body is {{"note": "…"}} with at most {MAX_NOTE_CHARACTERS} characters, or empty. '
            "Nothing was changed.",
            fields={"note": [f"A text of at most {MAX_NOTE_CHARACTERS} characters, without U+0000."]},
        )
    return note


def _channel(request: HttpRequest, name: str) -> Channel:
    """The team's channel. Raises Refusal("unknown_channel", 404), also where it is another team's."""
    return named(request, Channel.objects.kept().select_related("owner"), name)


def channel_document(channel: Channel) -> dict[str, Any]:
    """A channel as it is shown to whoever may read: of a webhook the host alone, for its path may be a secret."""
    kind = KINDS[channel.kind]
    hidden = {*kind.secret_fields, "url"} if channel.kind == Channel.Kind.WEBHOOK else {*kind.secret_fields}
    document = {
        "name": channel.name,
        "kind": channel.kind,
        "leads_to": kind.describe(channel.config),
        **{field: value for field, value in channel.config.items() if field not in hidden},
        "min_severity": channel.min_severity,
        "enabled": channel.is_enabled,
    }
    return {**document, "owner": channel.owner.email} if channel.owner else document


def _saved_document(saved: Saved) -> dict[str, Any]:
    document = channel_document(saved.channel)
    if saved.channel.kind == Channel.Kind.WEBHOOK:
        document["url"] = saved.channel.config["url"]
    return {**document, "secret": saved.secret} if saved.secret else document
