"""Silences and maintenance windows over HTTP: a router of the API, mounted at /api/v1/."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router, Schema
from ninja.responses import Response

from budgets.api.auth import BearerKey
from budgets.api.pagination import paginate
from budgets.errors import Refusal
from budgets.features import instant

from . import holds_described as described
from .maintenance import delete_window, next_occurrences, save_window, window_document
from .models import MaintenanceWindow, Silence
from .requests import actor_of, body_of, id_of, key_of, named
from .silences import create_silence, end_silence, silence_document

router = Router()


class MatcherAnswer(Schema):
    """A condition on an incident."""

    name: str
    operator: str
    value: str


class SilenceAnswer(Schema):
    """No message goes out about incidents that its matchers fit, between its bounds."""

    id: int
    state: Literal["coming", "current", "past"]
    matchers: list[MatcherAnswer]
    reason: str
    author: str
    starts_at: str
    ends_at: str
    created_at: str
    ended_by: str | None


class SilencePage(Schema):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[SilenceAnswer]
    next_cursor: str | None


class OccurrenceAnswer(Schema):
    """One time that a maintenance window is open."""

    starts_at: str
    ends_at: str


class MaintenanceWindowAnswer(Schema):
    """A silence that comes back. `next_occurrences` begins with the one that is open now, if any."""

    name: str
    matchers: list[MatcherAnswer]
    reason: str
    time_zone: str
    starts_on: str
    starts_at: str
    duration_minutes: int
    recurrence: str
    enabled: bool
    next_occurrences: list[OccurrenceAnswer]


class MaintenanceWindowPage(Schema):
    """By name; `next_cursor` is null on the last page."""

    items: list[MaintenanceWindowAnswer]
    next_cursor: str | None


@router.get(
    "/silences",
    auth=BearerKey("read"),
    response=SilencePage,
    operation_id="listSilences",
    openapi_extra=described.LIST_SILENCES,
)
def list_silences(request: HttpRequest, cursor: str | None = None) -> dict[str, Any]:
    """The team's silences, newest first."""
    now = timezone.now()
    found = Silence.objects.filter(team=key_of(request).team)
    return paginate(
        found,
        cursor,
        is_descending=True,
        describe=lambda page: [silence_document(one, now=now) for one in page],
    )


@router.post(
    "/silences",
    auth=BearerKey("write"),
    response={201: SilenceAnswer},
    operation_id="createSilence",
    openapi_extra=described.CREATE_SILENCE,
)
def post_silence(request: HttpRequest) -> Response:
    """Makes a silence."""
    now = timezone.now()
    made = create_silence(
        team=key_of(request).team, document=body_of(request), actor=actor_of(request), now=now
    )
    return Response(silence_document(made, now=now), status=201)


@router.get(
    "/silences/{silence_id}",
    auth=BearerKey("read"),
    response=SilenceAnswer,
    operation_id="getSilence",
    openapi_extra=described.GET_SILENCE,
)
def get_silence(request: HttpRequest, silence_id: str) -> dict[str, Any]:
    """One silence."""
    return silence_document(_silence(request, silence_id), now=timezone.now())


@router.delete(
    "/silences/{silence_id}",
    auth=BearerKey("write"),
    response=SilenceAnswer,
    operation_id="endSilence",
    openapi_extra=described.END_SILENCE,
)
def delete_silence(request: HttpRequest, silence_id: str) -> dict[str, Any]:
    """Ends it now; repeating is harmless."""
    now = timezone.now()
    found = _silence(request, silence_id)
    return silence_document(end_silence(silence_id=found.pk, actor=actor_of(request), now=now), now=now)


@router.get(
    "/maintenance-windows",
    auth=BearerKey("read"),
    response=MaintenanceWindowPage,
    operation_id="listMaintenanceWindows",
    openapi_extra=described.LIST_WINDOWS,
)
def list_windows(request: HttpRequest, cursor: str | None = None) -> dict[str, Any]:
    """The team's maintenance windows, by name."""
    now = timezone.now()
    return paginate(
        MaintenanceWindow.objects.filter(team=key_of(request).team),
        cursor,
        field="name",
        describe=lambda page: [_window_answer(one, now) for one in page],
    )


@router.get(
    "/maintenance-windows/{name}",
    auth=BearerKey("read"),
    response=MaintenanceWindowAnswer,
    operation_id="getMaintenanceWindow",
    openapi_extra=described.GET_WINDOW,
)
def get_window(request: HttpRequest, name: str) -> dict[str, Any]:
    """One maintenance window."""
    return _window_answer(named(request, MaintenanceWindow.objects.all(), name), timezone.now())


@router.put(
    "/maintenance-windows/{name}",
    auth=BearerKey("write"),
    response={200: MaintenanceWindowAnswer, 201: MaintenanceWindowAnswer},
    operation_id="putMaintenanceWindow",
    openapi_extra=described.PUT_WINDOW,
)
def put_window(request: HttpRequest, name: str) -> Response:
    """Makes the team's maintenance window what the body says."""
    now = timezone.now()
    saved = save_window(
        team=key_of(request).team, name=name, document=body_of(request), actor=actor_of(request), now=now
    )
    return Response(_window_answer(saved.window, now), status=201 if saved.is_created else 200)


@router.delete(
    "/maintenance-windows/{name}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteMaintenanceWindow",
    openapi_extra=described.DELETE_WINDOW,
)
def remove_window(request: HttpRequest, name: str) -> HttpResponse:
    """Deletes the team's maintenance window."""
    delete_window(team=key_of(request).team, name=name, actor=actor_of(request), now=timezone.now())
    return HttpResponse(status=204)


def _window_answer(window: MaintenanceWindow, now: datetime) -> dict[str, Any]:
    return {
        "name": window.name,
        **window_document(window),
        "next_occurrences": [
            {"starts_at": instant(one.starts_at), "ends_at": instant(one.ends_at)}
            for one in next_occurrences(window, now=now)
        ],
    }


def _silence(request: HttpRequest, silence_id: str) -> Silence:
    """The team's silence. Raises Refusal("unknown_silence", 404), also where it is another team's."""
    team = key_of(request).team
    found = Silence.objects.filter(team=team, pk=id_of(silence_id)).first()
    if found is None:
        raise Refusal(
            "unknown_silence", f"There is no silence {silence_id!r:.50} in team {team.slug!r}.", status=404
        )
    return found
