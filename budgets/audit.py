"""The audit log: every change that a person, a key or a command makes is written down with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from . import request_ids
from .models import AuditEntry, Team


def record(
    *,
    team: Team | None,
    actor: str,
    action: str,
    subject: str,
    before: Any,
    after: Any,
    now: datetime,
) -> None:
    """Adds an entry; nothing where before and after are equal.

    Called in the transaction of the change, so that neither is there without the other. `action` is a noun and
    a verb, e.g. `feature.declared`; `before` and `after` are JSON's own types and hold no secret.
    """
    if before == after:
        return
    AuditEntry.objects.create(
        team=team,
        actor=actor[:300],
        action=action,
        subject=subject[:450],
        before=before,
        after=after,
        at=now,
        request_id=request_ids.of_this_request(),
    )


def instant(at: datetime | None) -> str | None:
    """An instant as the log keeps it, to the second, e.g. 2026-11-21T20:00:00Z."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
