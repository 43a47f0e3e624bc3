"""The baseline's endpoint."""

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Key, Measurement, Series
from .serializers import MeasurementSerializer

STATUSES = {"ok": 0, "error": 1, "timeout": 2}
_Name = tuple[str, str | None, str | None, str, str]


class BearerKey(BaseAuthentication):
    """Takes a key by its digest."""

    def authenticate(self, request: Request) -> tuple[None, Key]:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        key = Key.objects.filter(digest=hashlib.sha256(token).digest()).first()
        if scheme.lower() != b"bearer" or key is None:
            raise AuthenticationFailed
        return None, key


class MeasurementList(APIView):
    """Stores the measurements of a body, all or none."""

    authentication_classes = [BearerKey]

    def post(self, request: Request) -> Response:
        serializer = MeasurementSerializer(data=request.data["measurements"], many=True)
        serializer.is_valid(raise_exception=True)
        items = serializer.validated_data
        series_ids = _series_ids({_name(item) for item in items})
        Measurement.objects.bulk_create(
            Measurement(
                series_id=series_ids[_name(item)],
                ended_at=item["started_at"] + timedelta(milliseconds=item["duration_ms"]),
                duration_ms=item["duration_ms"],
                status=STATUSES[item["status"]],
                trace_id=item.get("trace_id"),
                span_id=_signed(item.get("span_id")),
                parent_span_id=_signed(item.get("parent_span_id")),
                labels=item.get("labels"),
            )
            for item in items
        )
        return Response({"accepted": len(items)})


def _name(item: dict[str, Any]) -> _Name:
    component, milestone = item.get("component"), item.get("milestone")
    return item["feature"], component, milestone, item["environment"], item["release"]


def _series_ids(names: Iterable[_Name]) -> dict[_Name, int]:
    """The series of these names, made where they are new."""
    fields = ("feature", "component", "milestone", "environment", "release")
    wanted = set(names)
    known = Series.objects.filter(
        feature__in={name[0] for name in wanted}, release__in={name[4] for name in wanted}
    )
    ids: dict[_Name, int] = {row[:5]: row[5] for row in known.values_list(*fields, "pk")}  # type: ignore[misc]
    for name in wanted - ids.keys():
        ids[name] = Series.objects.get_or_create(**dict(zip(fields, name, strict=True)))[0].pk
    return ids


def _signed(span_id: str | None) -> int | None:
    return None if span_id is None else int.from_bytes(bytes.fromhex(span_id), "big", signed=True)
