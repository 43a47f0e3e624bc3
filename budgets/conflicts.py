"""What others saved of a feature while somebody edited it: who, when, and what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .differences import Difference, differences
from .features import digest_of
from .models import AuditEntry, Feature

# How many changes back a document is looked for: more than anybody makes while a form is open.
_MAX_ENTRIES = 200


@dataclass(frozen=True)
class SavedChange:
    """One entry of the audit log about a feature's document."""

    actor: str
    at: datetime
    differences: list[Difference]


@dataclass(frozen=True)
class ChangesSince:
    """What became of a document. `base` is that document; None where the audit log no longer tells it."""

    base: Mapping[str, Any] | None
    changes: list[SavedChange]


def changes_since(feature: Feature, digest: str) -> ChangesSince:
    """The changes made to the feature after its declared document had this digest, the latest first."""
    entries = AuditEntry.objects.filter(team=feature.team, action="feature.declared", subject=feature.slug)
    changes: list[SavedChange] = []
    for entry in entries[:_MAX_ENTRIES]:
        if entry.after is not None and digest_of(entry.after) == digest:
            return ChangesSince(entry.after, changes)
        changes.append(SavedChange(entry.actor, entry.at, differences(entry.before, entry.after)))
        if entry.before is not None and digest_of(entry.before) == digest:
            return ChangesSince(entry.before, changes)
    return ChangesSince(None, changes[:1])
