"""Deploys and notes that people and programs mark, and what marks there are of a feature and a range."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from . import audit
from .documents import is_web_address
from .errors import Refusal
from .features import instant
from .instants import read_instant
from .models import Annotation, Feature, Team
from .storable import is_storable

# A commit a minute around the clock is no deploy; a loop that posts is.
MAX_A_DAY: Final = 500
MAX_URL_CHARACTERS: Final = 2000
MAX_ENVIRONMENT_CHARACTERS: Final = 200
# Clocks differ; what is planned is for a maintenance window.
AHEAD: Final = timedelta(seconds=60)
IDEMPOTENCY_FOR: Final = timedelta(hours=24)
KINDS: Final = (Annotation.Kind.DEPLOY, Annotation.Kind.NOTE)
FIELDS: Final = ("kind", "text", "feature", "environment", "at", "url")
# Of one range; a chart of more would show nothing but lines.
MAX_DRAWN: Final = 500
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Added:
    """The annotation that there is now. `is_replay` where the idempotency key had brought it before."""

    annotation: Annotation
    is_created: bool
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class _Draft:
    feature: str | None
    environment: str
    at: datetime
    kind: str
    text: str
    url: str


def add_annotation(
    *,
    team: Team,
    document: Any,
    actor: str,
    now: datetime,
    idempotency_key: str | None = None,
    payload: bytes = b"",
) -> Added:
    """Marks a deploy or a note: {"kind", "text"} and optionally "feature", "environment", "at", "url".

    Without a feature it is about all of the team's. The same once more (feature, environment, instant, kind, text)
    is no second one, and neither is the same payload under the same idempotency key within 24 h.
    Raises Refusal: invalid_document, invalid_annotation, invalid_idempotency_key, unknown_feature (404),
    idempotency_key_reused (422), too_many_annotations (429).
    """
    if idempotency_key is not None and not (
        1 <= len(idempotency_key) <= 255 and idempotency_key.isprintable()
    ):
        raise Refusal(
            "invalid_idempotency_key",
            "Idempotency-Key must have 1 to 255 printable characters. Nothing was saved.",
        )
    draft = _read(document, now=now)
    digest = hashlib.sha256(payload).digest() if idempotency_key is not None else None
    with transaction.atomic():
        # One after the other within a team: the daily limit holds, and of two that come at once the second finds the first.
        Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        before = _replayed(team, idempotency_key, digest, now)
        if before is not None:
            return Added(before, is_created=False, is_replay=True)
        same = {
            "team": team,
            "feature": _feature(team, draft.feature),
            "environment": draft.environment,
            "at": draft.at,
            "kind": draft.kind,
            "text": draft.text,
        }
        there = Annotation.objects.filter(**same).first()
        if there is not None:
            return Added(there, is_created=False)
        _refuse_too_many(team, now)
        made = Annotation.objects.create(
            **same,
            url=draft.url,
            author=actor[:300],
            created_at=now,
            idempotency_key=idempotency_key,
            payload_digest=digest,
        )
        _record(made, actor, None, audited(made), "annotation.added", now)
    return Added(made, is_created=True)


def delete_annotation(*, annotation_id: int, actor: str, now: datetime) -> None:
    """Takes an annotation of any kind off every chart. Raises Refusal("unknown_annotation", 404)."""
    with transaction.atomic():
        found = (
            Annotation.objects.select_for_update(of=("self",))
            .select_related("team", "feature")
            .filter(pk=annotation_id)
            .first()
        )
        if found is None:
            raise Refusal(
                "unknown_annotation", "There is no such annotation. Nothing was changed.", status=404
            )
        _record(found, actor, audited(found), None, "annotation.deleted", now)
        found.delete()


def annotations_between(
    feature: Feature, *, environment: str, start: datetime, end: datetime
) -> list[Annotation]:
    """What is marked of the feature in [start, end), the newest 500, in the order in which it happened."""
    found = Annotation.objects.of_feature(feature, environment).between(start, end)
    return list(found.order_by("-at", "-id")[:MAX_DRAWN])[::-1]


def annotation_document(annotation: Annotation) -> dict[str, Any]:
    """An annotation as programs see it. Reads its feature."""
    return {
        "id": annotation.pk,
        "kind": annotation.kind,
        "text": annotation.text,
        "feature": annotation.feature.slug if annotation.feature else None,
        "environment": annotation.environment,
        "at": instant(annotation.at),
        "url": annotation.url or None,
        "author": annotation.author or None,
        "created_at": instant(annotation.created_at),
    }


def audited(annotation: Annotation) -> dict[str, Any]:
    """An annotation as the audit log keeps it. Reads its feature."""
    return {
        "kind": annotation.kind,
        "text": annotation.text,
        "feature": annotation.feature.slug if annotation.feature else None,
        "environment": annotation.environment,
        "at": audit.instant(annotation.at),
        "url": annotation.url,
    }


# -- reading ----------------------------------------------------------------------------------------


def _read(document: Any, *, now: datetime) -> _Draft:
    """Raises Refusal: invalid_document for another shape, invalid_annotation with all that is wrong."""
    if not isinstance(document, dict):
        raise Refusal.of("invalid_document", {"document": [f"Expected an object with {', '.join(FIELDS)}."]})
    unknown = sorted(str(name) for name in document if name not in FIELDS)
    if unknown:
        known = f"There is no such field: known are {', '.join(FIELDS)}."
        raise Refusal.of("invalid_document", {name[:100]: [known] for name in unknown[:20]})
    wrong: dict[str, list[str]] = {}
    kind, feature, url = document.get("kind"), document.get("feature"), document.get("url")
    if kind not in KINDS:
        said = f"kind must be {' or '.join(KINDS)}, got {kind!r:.100}."
        if kind == Annotation.Kind.RELEASE:
            said += " Releases appear by themselves when they are measured for the first time."
        wrong["kind"] = [said]
    text = _text(document.get("text"), "text", Annotation.MAX_TEXT_CHARACTERS, wrong)
    environment = _text(
        document.get("environment", "production"), "environment", MAX_ENVIRONMENT_CHARACTERS, wrong
    )
    at = _instant(document.get("at"), now, wrong)
    if feature is not None and not isinstance(feature, str):
        wrong["feature"] = [f"feature must be a feature's slug or null, got {feature!r:.100}."]
    if url not in (None, "") and not (isinstance(url, str) and is_storable(url) and is_web_address(url)):
        wrong["url"] = [
            f"url must be an address that begins with https:// or http:// and has at most {MAX_URL_CHARACTERS} "
            f"characters, got {url!r:.100}."
        ]
    if wrong:
        raise Refusal.of("invalid_annotation", wrong)
    return _Draft(feature, environment, at, str(kind), text, url or "")


def _text(value: Any, name: str, most: int, wrong: dict[str, list[str]]) -> str:
    """One line: labels on charts have no more."""
    line = " ".join(value.split()) if isinstance(value, str) else ""
    if not 1 <= len(line) <= most or not is_storable(line):
        got = f"{len(line)} characters" if isinstance(value, str) else f"{value!r:.100}"
        wrong[name] = [f"{name} must be a text of 1 to {most} characters without U+0000, got {got}."]
    return line


def _instant(value: Any, now: datetime, wrong: dict[str, list[str]]) -> datetime:
    if value is None:
        return now
    try:
        at = read_instant(value).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        wrong["at"] = [
            f"at must be RFC 3339 with a zone (2026-11-21T20:00:00Z) or Unix seconds, got {value!r:.100}."
        ]
        return now
    oldest = now - timedelta(days=settings.HOUR_RETENTION_DAYS)
    if not oldest <= at <= now + AHEAD:
        wrong["at"] = [
            f"at must be within the last {settings.HOUR_RETENTION_DAYS} days and at most 60 s ahead, got {value!r:.100}."
        ]
    return at


# -- writing ----------------------------------------------------------------------------------------


def _feature(team: Team, slug: str | None) -> Feature | None:
    if slug is None:
        return None
    found = Feature.objects.filter(team=team, slug=slug).first() if is_storable(slug) else None
    if found is None:
        raise Refusal(
            "unknown_feature",
            f"There is no feature {slug!r:.210} in team {team.slug!r}. Nothing was saved.",
            status=404,
            fields={"feature": ["No such feature."]},
        )
    return found


def _replayed(team: Team, key: str | None, digest: bytes | None, now: datetime) -> Annotation | None:
    """What the idempotency key brought within 24 h; None where the key is free, or free again."""
    if key is None:
        return None
    before = Annotation.objects.select_related("feature").filter(team_id=team.pk, idempotency_key=key).first()
    if before is None:
        return None
    if before.created_at <= now - IDEMPOTENCY_FOR:
        Annotation.objects.filter(pk=before.pk).update(idempotency_key=None)
        return None
    if bytes(before.payload_digest or b"") != digest:
        raise Refusal(
            "idempotency_key_reused",
            "This Idempotency-Key came with another payload within the last 24 h. Use a new key for a new "
            "annotation; nothing was saved.",
            status=422,
        )
    return before


def _refuse_too_many(team: Team, now: datetime) -> None:
    """Releases do not count: series have a limit of their own."""
    recent = Annotation.objects.filter(team_id=team.pk, created_at__gt=now - _DAY)
    if recent.exclude(kind=Annotation.Kind.RELEASE).count() >= MAX_A_DAY:
        raise Refusal(
            "too_many_annotations",
            f"Team {team.slug!r} made {MAX_A_DAY} annotations within 24 h, the most there may be. "
            "Mark deploys and not each of their steps; nothing was saved.",
            status=429,
        )


def _record(
    annotation: Annotation,
    actor: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    action: str,
    now: datetime,
) -> None:
    audit.record(
        team=annotation.team,
        actor=actor,
        action=action,
        subject=f"annotation {annotation.pk}",
        before=before,
        after=after,
        now=now,
    )
