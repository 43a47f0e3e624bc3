"""What was refused and why, kept for the people who look for their measurements: the last hundred payloads a key."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import DatabaseError, transaction

from .errors import Refusal
from .models import IngestKey, RejectedPayload

log = logging.getLogger(__name__)

KEPT_A_KEY = 100
MAX_ITEMS = 20
MAX_EXCERPT_CHARACTERS = 500
_OF_THE_PAYLOAD = frozenset({400, 413, 415, 422})


class _Lists(msgspec.Struct):
    measurements: list[msgspec.Raw] = []
    requests: list[msgspec.Raw] = []


def keep_rejected_items(
    key: IngestKey, body: bytes, document: dict[str, Any], *, status: int, now: datetime
) -> None:
    """Keeps what an answer says was rejected, with the first items as they came; nothing where all was accepted."""
    rejected: list[dict[str, Any]] = document.get("rejected", [])
    error = document.get("error", {})
    if not rejected and not error:
        return
    _keep(
        RejectedPayload(
            key=key,
            received_at=now,
            status=status,
            code=error.get("code", ""),
            message=error.get("message", ""),
            accepted=document.get("accepted", 0),
            rejected_count=len(rejected),
            items=_with_excerpts(rejected[:MAX_ITEMS], body),
        )
    )


def keep_refusal(key: IngestKey, refusal: Refusal, *, now: datetime) -> None:
    """Keeps that a payload was refused whole; nothing where that was not for what is in it (409, 429)."""
    if refusal.status not in _OF_THE_PAYLOAD:
        return
    _keep(
        RejectedPayload(
            key=key, received_at=now, status=refusal.status, code=refusal.code, message=refusal.message
        )
    )


def last_rejected(keys: Sequence[IngestKey]) -> list[RejectedPayload]:
    """The payloads of these keys of which something was refused, newest first."""
    return list(
        RejectedPayload.objects.filter(key__in=keys).select_related("key").order_by("-id")[:KEPT_A_KEY]
    )


def _keep(payload: RejectedPayload) -> None:
    """Adds a payload and drops the key's oldest. It stands alone: what was stored is committed already."""
    # jsonb and text refuse U+0000, which may be just why something was refused.
    payload.message = payload.message.replace("\0", "␀")
    try:
        with transaction.atomic():
            payload.save(force_insert=True)
            kept = (
                RejectedPayload.objects.filter(key=payload.key_id).order_by("-id").values("pk")[:KEPT_A_KEY]
            )
            RejectedPayload.objects.filter(key=payload.key_id).exclude(pk__in=kept).delete()
    except DatabaseError as error:
        # The sender gets its answer with the reasons all the same.
        log.warning("Rejected items of key %s could not be kept: %s", payload.key_id, error)


def _with_excerpts(rejected: list[dict[str, Any]], body: bytes) -> list[dict[str, Any]]:
    try:
        lists = msgspec.json.decode(body, type=_Lists)
    except (msgspec.DecodeError, RecursionError):
        lists = _Lists()
    return [
        {
            "index": one["index"],
            "in": one["in"],
            "code": one["code"],
            "message": str(one["message"]).replace("\0", "␀"),
            "item": _excerpt(getattr(lists, one["in"], []), one["index"]),
        }
        for one in rejected
    ]


def _excerpt(items: Sequence[msgspec.Raw], index: int) -> str:
    if not 0 <= index < len(items):
        return ""
    text = bytes(items[index]).decode(errors="replace").replace("\0", "␀")
    return text if len(text) <= MAX_EXCERPT_CHARACTERS else f"{text[:MAX_EXCERPT_CHARACTERS]}…"
