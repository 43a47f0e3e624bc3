"""Bearer keys: `ld_<prefix>_<secret>`, shown once, kept as an HMAC under a pepper of its own."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from . import audit
from .errors import Refusal
from .models import IngestKey, Team

TEAM_SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
ALPHABET = string.ascii_letters + string.digits
PREFIX_LENGTH = 8
SECRET_LENGTH = 40  # 62^40: 238 bits
# How stale `last_used_at` may be. Writing it on every request would make each one an update of the same row.
LAST_USED_RESOLUTION = timedelta(minutes=1)


def create_key(
    *,
    team_slug: str,
    name: str,
    scopes: Sequence[str],
    actor: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[IngestKey, str]:
    """A new key and its plain text, which nothing can show again. Makes the team where it is new.

    Raises Refusal("invalid_key") for a name, a team or scopes that cannot be.
    """
    known = [scope.value for scope in IngestKey.Scope]
    wanted = list(dict.fromkeys(scopes))
    fields: dict[str, list[str]] = {}
    if not name.strip() or len(name) > 200 or "\0" in name:
        fields["name"] = ["A key needs a name of 1 to 200 characters, so that people know what to revoke."]
    if not TEAM_SLUG.fullmatch(team_slug):
        fields["team"] = [f"A team is named by letters, digits, hyphens and underscores, got {team_slug!r}."]
    unknown = [scope for scope in wanted if scope not in known]
    if unknown or not wanted:
        fields["scopes"] = [
            f"Expected one or more of {', '.join(known)}, got {', '.join(unknown) or 'none'}."
        ]
    if expires_at is not None and expires_at <= now:
        fields["expires_at"] = ["A key must expire in the future."]
    if fields:
        raise Refusal(
            "invalid_key",
            "The key was not made: "
            + " ".join(message for messages in fields.values() for message in messages),
            fields=fields,
        )
    prefix = "".join(secrets.choice(ALPHABET) for _ in range(PREFIX_LENGTH))
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    with transaction.atomic():
        team, is_new = Team.objects.get_or_create(
            slug=team_slug, defaults={"name": team_slug.replace("-", " ").capitalize(), "created_at": now}
        )
        if is_new:
            audit.record(
                team=team,
                actor=actor,
                action="team.created",
                subject=team.slug,
                before=None,
                after={"name": team.name, "slug": team.slug},
                now=now,
            )
        key = IngestKey.objects.create(
            team=team,
            name=name.strip(),
            prefix=prefix,
            digest=_digest(secret),
            scopes=wanted,
            created_at=now,
            expires_at=expires_at,
        )
        audit.record(
            team=team,
            actor=actor,
            action="key.created",
            subject=str(key),
            before=None,
            after=_audited(key),
            now=now,
        )
    return key, f"ld_{prefix}_{secret}"


def revoke_key(*, key_id: int, actor: str, now: datetime) -> bool:
    """Makes a key worthless for ever; False where it was before. Raises IngestKey.DoesNotExist."""
    with transaction.atomic():
        key = IngestKey.objects.select_for_update(of=("self",)).select_related("team").get(pk=key_id)
        if key.revoked_at is not None:
            return False
        before = _audited(key)
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        audit.record(
            team=key.team,
            actor=actor,
            action="key.revoked",
            subject=str(key),
            before=before,
            after=_audited(key),
            now=now,
        )
    return True


def authenticate(token: str, now: datetime) -> IngestKey | None:
    """The usable key that a bearer token is, with its team; None for anything else."""
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != "ld" or len(parts[1]) != PREFIX_LENGTH or "\0" in token:
        return None
    key = _with_prefix(parts[1])
    # The digest is compared also where no key has the prefix, so that both take the same time.
    is_right = hmac.compare_digest(bytes(key.digest) if key else b"\0" * 32, _digest(parts[2]))
    if not is_right and settings.KEY_PEPPER_FALLBACKS:
        is_right = _is_right_under_a_former_pepper(key, parts[2])
    if key is None or not is_right or not key.is_usable(now):
        return None
    if key.last_used_at is None or now - key.last_used_at > LAST_USED_RESOLUTION:
        IngestKey.objects.filter(pk=key.pk).filter(
            Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
        ).update(last_used_at=now)
    return key


def _is_right_under_a_former_pepper(key: IngestKey | None, secret: str) -> bool:
    """Whether it is, and then keeps it under the present one: its next request needs no former pepper."""
    kept = bytes(key.digest) if key else b"\0" * 32
    # Every one is tried, so that the time tells nothing.
    is_right = (
        sum(hmac.compare_digest(kept, _digest(secret, pepper)) for pepper in settings.KEY_PEPPER_FALLBACKS)
        > 0
    )
    if key is not None and is_right:
        IngestKey.objects.filter(pk=key.pk, digest=kept).update(digest=_digest(secret))
    return is_right


def _with_prefix(prefix: str) -> IngestKey | None:
    """The key and its team in one statement, written out: every request asks, and building it anew costs more."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT k.id, k.name, k.prefix, k.digest, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.last_used_at,
                   t.id, t.slug, t.name, t.created_at
            FROM budgets_ingestkey k JOIN budgets_team t ON t.id = k.team_id WHERE k.prefix = %s
            """,
            [prefix],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    team = Team(pk=row[9], slug=row[10], name=row[11], created_at=row[12])
    return IngestKey(
        pk=row[0],
        name=row[1],
        prefix=row[2],
        digest=row[3],
        scopes=row[4],
        created_at=row[5],
        expires_at=row[6],
        revoked_at=row[7],
        last_used_at=row[8],
        team=team,
    )


def _audited(key: IngestKey) -> dict[str, Any]:
    """A key as the audit log keeps it: by its prefix, which tells it from others and opens nothing."""
    return {
        "name": key.name,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "expires_at": audit.instant(key.expires_at),
        "revoked_at": audit.instant(key.revoked_at),
    }


def _digest(secret: str, pepper: str | None = None) -> bytes:
    """The HMAC of a key's secret, under the present pepper where none is given."""
    return hmac.digest((pepper or settings.KEY_PEPPER).encode(), secret.encode(), hashlib.sha256)
