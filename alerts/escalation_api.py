"""On-call schedules and escalation policies over HTTP: a router of the API, mounted at /api/v1/."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema
from ninja.responses import Response

from budgets.api.auth import BearerKey
from budgets.api.instants import read_instant
from budgets.api.pagination import paginate
from budgets.errors import Refusal
from budgets.features import instant

from . import holds_described as described
from .holds_api import MatcherAnswer
from .models import EscalationPolicy, Schedule
from .overrides import create_override, current_overrides, override_document, remove_override
from .policies import delete_policy, policy_document, save_policy
from .requests import actor_of, body_of, id_of, key_of, named
from .rotas import Because
from .schedules import READ_WITH, delete_schedule, on_call, save_schedule, schedule_document

router = Router()


class HoursAnswer(Schema):
    """On these days from one time of day to another."""

    days: list[str]
    opens_at: str = Field(alias="from")
    closes_at: str = Field(alias="to")


class OverrideAnswer(Schema):
    """Somebody else, or nobody, for a while."""

    id: int
    person: str | None
    starts_at: str
    ends_at: str
    author: str
    created_at: str


class OverridePage(Schema):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[OverrideAnswer]
    next_cursor: str | None


class ScheduleAnswer(Schema):
    """Who is on call when. `overrides` are those that are not over."""

    name: str
    time_zone: str
    starts_on: str
    hands_over_at: str
    turn_days: int
    people: list[str | None]
    hours: list[HoursAnswer]
    overrides: list[OverrideAnswer]


class SchedulePage(Schema):
    """By name; `next_cursor` is null on the last page."""

    items: list[ScheduleAnswer]
    next_cursor: str | None


class OnCallAnswer(Schema):
    """Who is on call at an instant, from when until when that is so, and why."""

    schedule: str
    at: str
    person: str | None
    starts_at: str
    ends_at: str
    because: Because


class RecipientAnswer(Schema):
    """Whom a step notifies. A person's name is their e-mail address."""

    kind: str
    name: str


class StepAnswer(Schema):
    """Whom a step notifies, and how long the next one waits."""

    notify: list[RecipientAnswer]
    wait_minutes: int


class EscalationPolicyAnswer(Schema):
    """Whom an incident goes to, step after step, until somebody acknowledges it."""

    name: str
    matchers: list[MatcherAnswer]
    steps: list[StepAnswer]
    repetitions: int
    reminder_minutes: int | None
    unacknowledge_minutes: int | None
    enabled: bool
    position: int


class EscalationPolicyPage(Schema):
    """By name; `position` is the order in which they are asked. `next_cursor` is null on the last page."""

    items: list[EscalationPolicyAnswer]
    next_cursor: str | None


@router.get(
    "/schedules",
    auth=BearerKey("read"),
    response=SchedulePage,
    by_alias=True,
    operation_id="listSchedules",
    openapi_extra=described.LIST_SCHEDULES,
)
def list_schedules(request: HttpRequest, cursor: str | None = None) -> dict[str, Any]:
    """The team's on-call schedules, by name."""
    return paginate(
        Schedule.objects.filter(team=key_of(request).team).prefetch_related(*READ_WITH),
        cursor,
        field="name",
        describe=_schedule_answers,
    )


@router.get(
    "/schedules/{name}",
    auth=BearerKey("read"),
    response=ScheduleAnswer,
    by_alias=True,
    operation_id="getSchedule",
    openapi_extra=described.GET_SCHEDULE,
)
def get_schedule(request: HttpRequest, name: str) -> dict[str, Any]:
    """One on-call schedule."""
    return _schedule_answer(named(request, Schedule.objects.all(), name))


@router.put(
    "/schedules/{name}",
    auth=BearerKey("write"),
    response={200: ScheduleAnswer, 201: ScheduleAnswer},
    by_alias=True,
    operation_id="putSchedule",
    openapi_extra=described.PUT_SCHEDULE,
)
def put_schedule(request: HttpRequest, name: str) -> Response:
    """Makes the team's schedule what the body says; its overrides stay."""
    saved = save_schedule(
        team=key_of(request).team,
        name=name,
        document=body_of(request),
        actor=actor_of(request),
        now=timezone.now(),
    )
    return Response(_schedule_answer(saved.schedule), status=201 if saved.is_created else 200)


@router.delete(
    "/schedules/{name}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteSchedule",
    openapi_extra=described.DELETE_SCHEDULE,
)
def remove_schedule(request: HttpRequest, name: str) -> HttpResponse:
    """Deletes the team's schedule, unless an escalation policy names it."""
    delete_schedule(team=key_of(request).team, name=name, actor=actor_of(request), now=timezone.now())
    return HttpResponse(status=204)


@router.get(
    "/schedules/{name}/overrides",
    auth=BearerKey("read"),
    response=OverridePage,
    operation_id="listOverrides",
    openapi_extra=described.LIST_OVERRIDES,
)
def list_overrides(request: HttpRequest, name: str, cursor: str | None = None) -> dict[str, Any]:
    """A schedule's overrides, newest first, those that are over too."""
    schedule = named(request, Schedule.objects.all(), name)
    return paginate(
        schedule.overrides.select_related("person"),
        cursor,
        is_descending=True,
        describe=lambda page: [override_document(one) for one in page],
    )


@router.post(
    "/schedules/{name}/overrides",
    auth=BearerKey("write"),
    response={201: OverrideAnswer},
    operation_id="createOverride",
    openapi_extra=described.CREATE_OVERRIDE,
)
def post_override(request: HttpRequest, name: str) -> Response:
    """Puts somebody of the team on call for a while, or nobody."""
    schedule = named(request, Schedule.objects.all(), name)
    made = create_override(
        schedule_id=schedule.pk, document=body_of(request), actor=actor_of(request), now=timezone.now()
    )
    return Response(override_document(made), status=201)


@router.delete(
    "/schedules/{name}/overrides/{override_id}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteOverride",
    openapi_extra=described.DELETE_OVERRIDE,
)
def delete_override(request: HttpRequest, name: str, override_id: str) -> HttpResponse:
    """Takes an override back; one that has begun ends now."""
    schedule = named(request, Schedule.objects.all(), name)
    remove_override(
        schedule_id=schedule.pk,
        override_id=id_of(override_id),
        actor=actor_of(request),
        now=timezone.now(),
    )
    return HttpResponse(status=204)


@router.get(
    "/schedules/{name}/on-call",
    auth=BearerKey("read"),
    response=OnCallAnswer,
    operation_id="getOnCall",
    openapi_extra=described.GET_ON_CALL,
)
def get_on_call(request: HttpRequest, name: str, at: str | None = None) -> dict[str, Any]:
    """Who is on call."""
    asked = read_instant("at", at) if at is not None else timezone.now()
    if not 1971 <= asked.year <= 2999:
        raise Refusal(
            "invalid_instant",
            f"at must lie between the years 1971 and 2999, got {asked.year}.",
            fields={"at": ["Between the years 1971 and 2999."]},
        )
    schedule = named(request, Schedule.objects.all(), name)
    shift = on_call([schedule.pk], at=asked)[schedule.pk]
    return {
        "schedule": schedule.name,
        "at": instant(asked),
        "person": shift.person.email if shift.person else None,
        "starts_at": instant(shift.starts_at),
        "ends_at": instant(shift.ends_at),
        "because": str(shift.because),
    }


@router.get(
    "/escalation-policies",
    auth=BearerKey("read"),
    response=EscalationPolicyPage,
    operation_id="listEscalationPolicies",
    openapi_extra=described.LIST_POLICIES,
)
def list_policies(request: HttpRequest, cursor: str | None = None) -> dict[str, Any]:
    """The team's escalation policies, by name."""
    return paginate(
        EscalationPolicy.objects.filter(team=key_of(request).team),
        cursor,
        field="name",
        describe=lambda page: [_policy_answer(one) for one in page],
    )


@router.get(
    "/escalation-policies/{name}",
    auth=BearerKey("read"),
    response=EscalationPolicyAnswer,
    operation_id="getEscalationPolicy",
    openapi_extra=described.GET_POLICY,
)
def get_policy(request: HttpRequest, name: str) -> dict[str, Any]:
    """One escalation policy."""
    return _policy_answer(named(request, EscalationPolicy.objects.all(), name))


@router.put(
    "/escalation-policies/{name}",
    auth=BearerKey("write"),
    response={200: EscalationPolicyAnswer, 201: EscalationPolicyAnswer},
    operation_id="putEscalationPolicy",
    openapi_extra=described.PUT_POLICY,
)
def put_policy(request: HttpRequest, name: str) -> Response:
    """Makes the team's escalation policy what the body says."""
    saved = save_policy(
        team=key_of(request).team,
        name=name,
        document=body_of(request),
        actor=actor_of(request),
        now=timezone.now(),
    )
    return Response(_policy_answer(saved.policy), status=201 if saved.is_created else 200)


@router.delete(
    "/escalation-policies/{name}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteEscalationPolicy",
    openapi_extra=described.DELETE_POLICY,
)
def remove_policy(request: HttpRequest, name: str) -> HttpResponse:
    """Deletes the team's escalation policy; open incidents keep it."""
    delete_policy(team=key_of(request).team, name=name, actor=actor_of(request), now=timezone.now())
    return HttpResponse(status=204)


def _schedule_answers(schedules: list[Schedule]) -> list[dict[str, Any]]:
    overrides = current_overrides(schedules, now=timezone.now())
    return [
        {
            "name": schedule.name,
            **schedule_document(schedule),
            "overrides": [override_document(one) for one in overrides[schedule.pk]],
        }
        for schedule in schedules
    ]


def _schedule_answer(schedule: Schedule) -> dict[str, Any]:
    return _schedule_answers([schedule])[0]


def _policy_answer(policy: EscalationPolicy) -> dict[str, Any]:
    return {"name": policy.name, **policy_document(policy)}
