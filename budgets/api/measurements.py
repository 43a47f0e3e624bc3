"""POST /api/v1/measurements: takes bytes in, gives reasons out."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router

from budgets import doorbell, ingest, meters, rejections
from budgets.errors import Refusal
from budgets.models import IngestKey

from . import described
from .auth import BearerKey

router = Router()


@router.post(
    "/measurements",
    auth=BearerKey("ingest"),
    operation_id="postMeasurements",
    openapi_extra=described.POST_MEASUREMENTS,
)
def post_measurements(request: HttpRequest) -> HttpResponse:
    """Stores what is usable of the body before it answers, and says why the rest is not."""
    key: IngestKey = request.auth  # type: ignore[attr-defined]
    now = timezone.now()
    try:
        body = _read_body(request)
        answer = ingest.accept(
            key=key, body=body, idempotency_key=request.headers.get("Idempotency-Key"), now=now
        )
    except Refusal as refusal:
        rejections.keep_refusal(key, refusal, now=now)
        raise
    rejections.keep_rejected_items(key, body, answer.document, status=answer.status, now=now)
    is_stored = answer.batch_id is not None
    meters.count_answer(
        answer.document, body_bytes=len(body), is_stored=is_stored, is_replay=answer.is_replay
    )
    if is_stored:
        doorbell.ring_soon()
    response = HttpResponse(
        ingest.encode(answer.document), status=answer.status, content_type="application/json"
    )
    if answer.is_replay:
        response["Idempotent-Replay"] = "true"
    return response


def _read_body(request: HttpRequest) -> bytes:
    """The body, inflated; refused by its headers before it is read where they tell."""
    media_type = request.headers.get("Content-Type", "application/json")
    name, _, parameters = media_type.partition(";")
    charset = parameters.lower().partition("charset=")[2].split(";")[0].strip().strip('"')
    if name.strip().lower() not in ("application/json", "") or charset not in ("", "utf-8", "utf8"):
        raise Refusal(
            "unsupported_media_type",
            f"Expected Content-Type: application/json in UTF-8, got {media_type!r:.100}. Nothing was stored.",
            status=415,
        )
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise Refusal(
            "unsupported_encoding",
            f"Expected Content-Encoding: gzip or none, got {encoding!r:.100}. Nothing was stored.",
            status=415,
        )
    limit = settings.INGEST_MAX_WIRE_BYTES
    length = request.headers.get("Content-Length", "")
    body = b"" if length.isdigit() and int(length) > limit else request.read(limit + 1)
    if (length.isdigit() and int(length) > limit) or len(body) > limit:
        raise Refusal(
            "body_too_large",
            f"A body has at most {limit} bytes on the wire. Send it in several parts or as gzip; nothing was stored.",
            status=413,
        )
    return ingest.inflate(body, settings.INGEST_MAX_INFLATED_BYTES) if encoding == "gzip" else body
