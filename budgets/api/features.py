"""Features: declare, read, status, time series."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router
from ninja.responses import Response

from budgets import doorbell
from budgets.burn_rates import State
from budgets.errors import Refusal
from budgets.features import declare_feature, describe, with_documents
from budgets.limits import budgets_in_force
from budgets.models import Feature, Milestone, Series, Team
from budgets.status import FeatureStatus, get_feature_status, get_overview, get_timeseries

from . import described
from .auth import BearerKey
from .documents import status_document, timeseries_document
from .instants import read_instant
from .pagination import paginate

router = Router()

# Worst first: what a feature's one state is taken from.
_WORST_FIRST = [State.BREACHED, State.AT_RISK, State.OK, State.NO_DATA]


@router.put(
    "/features/{feature}",
    auth=BearerKey("write"),
    operation_id="putFeature",
    openapi_extra=described.PUT_FEATURE,
)
def put_feature(request: HttpRequest, feature: str) -> Response:
    """Makes the feature what the document says."""
    key = request.auth  # type: ignore[attr-defined]
    try:
        document = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was saved.") from error
    declared = declare_feature(
        team=key.team, slug=feature, document=document, actor=f"key {key.name}", now=timezone.now()
    )
    if declared.feature.rejudge_requested_at is not None:
        doorbell.send("budgets.tasks.rejudge")
    return Response(_feature_documents([declared.feature])[0], status=201 if declared.is_created else 200)


@router.get(
    "/features", auth=BearerKey("read"), operation_id="listFeatures", openapi_extra=described.LIST_FEATURES
)
def list_features(request: HttpRequest, cursor: str | None = None) -> dict[str, Any]:
    """The team's features, by slug."""
    features = with_documents(Feature.objects.filter(team=_team(request)))
    return paginate(features, cursor, field="slug", describe=_feature_documents)


@router.get(
    "/features/{feature}",
    auth=BearerKey("read"),
    operation_id="getFeature",
    openapi_extra=described.GET_FEATURE,
)
def get_feature(request: HttpRequest, feature: str) -> dict[str, Any]:
    """The declared document, its versions, and the state now."""
    return _feature_documents([_feature(request, feature)])[0]


@router.get(
    "/features/{feature}/status",
    auth=BearerKey("read"),
    operation_id="getFeatureStatus",
    openapi_extra=described.GET_STATUS,
)
def get_status(
    request: HttpRequest,
    feature: str,
    milestone: str | None = None,
    environment: str = "production",
    release: str | None = None,
    at: str | None = None,
    window: str | None = None,
) -> dict[str, Any]:
    """A milestone against its latency budget."""
    found = _feature(request, feature)
    now = timezone.now()
    instant = read_instant("at", at) if at is not None else now
    _refuse_nul(environment=environment, release=release)
    status = get_feature_status(
        found,
        milestone=_milestone(found, milestone, environment, instant),
        environment=environment,
        release=release,
        now=now,
        at=instant,
        window=window,
    )
    return status_document(status)


@router.get(
    "/features/{feature}/timeseries",
    auth=BearerKey("read"),
    operation_id="getFeatureTimeseries",
    openapi_extra=described.GET_TIMESERIES,
)
def get_series(
    request: HttpRequest,
    feature: str,
    target: str,
    start: Annotated[str, Query(..., alias="from")],
    end: Annotated[str, Query(..., alias="to")],
    environment: str = "production",
    release: str | None = None,
    step: int | None = None,
) -> dict[str, Any]:
    """Counts and percentiles of one target over time."""
    found = _feature(request, feature)
    _refuse_nul(target=target, environment=environment, release=release)
    series = get_timeseries(
        found,
        target=target,
        environment=environment,
        release=release,
        start=read_instant("from", start),
        end=read_instant("to", end),
        step=step,
        now=timezone.now(),
    )
    return timeseries_document(series)


def _team(request: HttpRequest) -> Team:
    team: Team = request.auth.team  # type: ignore[attr-defined]
    return team


def _feature(request: HttpRequest, slug: str) -> Feature:
    """The team's feature, archived or not. Raises Refusal("unknown_feature", 404)."""
    team = _team(request)
    feature = (
        None if "\0" in slug else Feature.objects.select_related("team").filter(team=team, slug=slug).first()
    )
    if feature is None:
        raise Refusal(
            "unknown_feature", f"There is no feature {slug!r:.210} in team {team.slug!r}.", status=404
        )
    return feature


def _refuse_nul(**values: str | None) -> None:
    for name, value in values.items():
        if value and "\0" in value:
            raise Refusal("invalid_text", f"{name} must not contain U+0000.", fields={name: ["No U+0000."]})


def _milestone(feature: Feature, given: str | None, environment: str, now: Any) -> str:
    """The milestone that was asked for, or the only one there is."""
    if given is not None:
        if given not in Milestone.values:
            raise Refusal(
                "invalid_milestone",
                f"milestone must be one of {', '.join(Milestone.values)}, got {given!r:.100}.",
                fields={"milestone": [f"One of {', '.join(Milestone.values)}."]},
            )
        return given
    here = {milestone for _, milestone in budgets_in_force([feature.pk], now)}
    if not here:
        measured = Series.objects.filter(feature=feature, environment=environment).exclude(milestone=None)
        here = {str(milestone) for milestone in measured.values_list("milestone", flat=True)}
    if len(here) != 1:
        raise Refusal(
            "milestone_required",
            f"Feature {feature.slug!r} has {'several milestones' if here else 'no milestone yet'}; name one: "
            f"{', '.join(Milestone.values)}.",
            fields={"milestone": [f"One of {', '.join(Milestone.values)}."]},
        )
    return here.pop()


def _feature_documents(features: list[Feature]) -> list[dict[str, Any]]:
    statuses = get_overview(features, now=timezone.now(), with_component_percentiles=False)
    return [
        {**describe(feature), "state": _worst(statuses[feature.pk]), "states": _states(statuses[feature.pk])}
        for feature in features
    ]


def _states(statuses: dict[str, FeatureStatus]) -> dict[str, str]:
    return {milestone: status.state for milestone, status in statuses.items()}


def _worst(statuses: dict[str, FeatureStatus]) -> str:
    found = set(_states(statuses).values())
    return next((state for state in _WORST_FIRST if state in found), State.NO_DATA)
