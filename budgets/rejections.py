"""What was refused and why, kept for the people who look for their measurements: the last hundred payloads a key."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import DatabaseError, transaction

from .errors import Refusal
from .models import Feature, IngestKey, RejectedPayload

log = logging.getLogger(__name__)

KEPT_A_KEY = 100
MAX_ITEMS = 20
MAX_EXCERPT_CHARACTERS = 500
_OF_THE_PAYLOAD = frozenset({400, 413, 415, 422})
# An item is kept cut short and may be no whole JSON.
_FEATURE_OF_ITEM = re.compile(r'"feature"\s*:\s*"([^"\\]*)"')


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


def rejected_of(feature: Feature, *, since: datetime) -> list[dict[str, Any]]:
    """What was refused of a feature since an instant, newest first, as its team's last twenty payloads tell.

    An item that names another feature of the team's is that one's; what names none, or one that there is not, may
    have been meant for this one. Each has received_at, key_name, status, where, code, message and item.
    """
    payloads = RejectedPayload.objects.filter(key__team=feature.team_id, received_at__gte=since)
    others = set(
        Feature.objects.filter(team=feature.team_id).exclude(pk=feature.pk).values_list("slug", flat=True)
    )
    found: list[dict[str, Any]] = []
    for payload in payloads.select_related("key").order_by("-id")[:20]:
        said = {"received_at": payload.received_at, "key_name": payload.key.name, "status": payload.status}
        for one in payload.items:
            names = _FEATURE_OF_ITEM.search(one["item"])
            if names is None or names[1] not in others:
                where = f"{one['in']}[{one['index']}]"
                found.append(
                    {
                        **said,
                        "where": where,
                        "code": one["code"],
                        "message": one["message"],
                        "item": one["item"],
                    }
                )
        if not payload.items:
            found.append({**said, "where": "", "code": payload.code, "message": payload.message, "item": ""})
    return found


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
