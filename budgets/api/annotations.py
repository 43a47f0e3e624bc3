"""Annotations: mark a deploy or a note, list, delete."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from ninja.responses import Response

from budgets.annotations import add_annotation, annotation_document, delete_annotation
from budgets.errors import Refusal
from budgets.models import Annotation, Feature, IngestKey

from . import described
from .auth import BearerKey
from .instants import read_instant
from .pagination import paginate

router = Router()


@router.post(
    "/annotations",
    # A job that deploys needs no more than a service that measures.
    auth=BearerKey("ingest", "write"),
    operation_id="postAnnotation",
    openapi_extra=described.POST_ANNOTATION,
)
def post_annotation(request: HttpRequest) -> Response:
    """Marks a deploy or a note on every chart that shows its instant."""
    key = _key(request)
    try:
        document = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was saved.") from error
    added = add_annotation(
        team=key.team,
        document=document,
        actor=f"key {key.name}",
        now=timezone.now(),
        idempotency_key=request.headers.get("Idempotency-Key"),
        payload=request.body,
    )
    response = Response(annotation_document(added.annotation), status=201 if added.is_created else 200)
    if added.is_replay:
        response["Idempotent-Replay"] = "true"
    return response


@router.get(
    "/annotations",
    auth=BearerKey("read"),
    operation_id="listAnnotations",
    openapi_extra=described.LIST_ANNOTATIONS,
)
def list_annotations(
    request: HttpRequest,
    feature: str | None = None,
    environment: str | None = None,
    start: Annotated[str | None, Query(alias="from")] = None,
    end: Annotated[str | None, Query(alias="to")] = None,
    cursor: str | None = None,
) -> dict[str, Any]:
    """The team's annotations, releases among them; the latest made first."""
    team = _key(request).team
    found = Annotation.objects.filter(team=team)
    if feature is not None:
        one = None if "\0" in feature else Feature.objects.filter(team=team, slug=feature).first()
        if one is None:
            raise Refusal(
                "unknown_feature", f"There is no feature {feature!r:.210} in team {team.slug!r}.", status=404
            )
        # Those about all features are about this one too.
        found = found.filter(Q(feature=one) | Q(feature=None))
    if environment is not None:
        if "\0" in environment:
            raise Refusal(
                "invalid_text",
                "environment must not contain U+0000.",
                fields={"environment": ["No U+0000."]},
            )
        found = found.filter(environment=environment)
    since = None if start is None else read_instant("from", start)
    until = None if end is None else read_instant("to", end)
    if since is not None and until is not None and until < since:
        raise Refusal(
            "invalid_range", "to must not be before from.", fields={"to": ["It must not be before from."]}
        )
    if since is not None:
        found = found.filter(at__gte=since)
    if until is not None:
        found = found.filter(at__lt=until)
    return paginate(
        found.select_related("feature"),
        cursor,
        is_descending=True,
        describe=lambda page: [annotation_document(one) for one in page],
    )


@router.delete(
    "/annotations/{annotation_id}",
    auth=BearerKey("write"),
    operation_id="deleteAnnotation",
    openapi_extra=described.DELETE_ANNOTATION,
)
def delete_annotation_by_id(request: HttpRequest, annotation_id: str) -> HttpResponse:
    """Takes it off every chart."""
    key = _key(request)
    is_number = annotation_id.isascii() and annotation_id.isdigit() and len(annotation_id) <= 18
    found = Annotation.objects.filter(team=key.team, pk=int(annotation_id) if is_number else 0).first()
    if found is None:
        raise Refusal(
            "unknown_annotation",
            f"There is no annotation {annotation_id!r:.100} in team {key.team.slug!r}.",
            status=404,
        )
    delete_annotation(annotation_id=found.pk, actor=f"key {key.name}", now=timezone.now())
    return HttpResponse(status=204)


def _key(request: HttpRequest) -> IngestKey:
    key: IngestKey = request.auth  # type: ignore[attr-defined]
    return key
