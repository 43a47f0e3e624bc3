"""Instants in documents, files and addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def read_instant(value: Any) -> datetime:
    """RFC 3339 with a zone, or Unix seconds, aware and in its own zone. Raises ValueError, OverflowError or OSError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        at = datetime.fromtimestamp(value, tz=UTC)
    elif isinstance(value, str) and "T" in value.upper():
        at = datetime.fromisoformat(value)
    else:
        raise ValueError(value)
    if at.tzinfo is None:
        raise ValueError(value)
    return at


def rfc3339(at: datetime) -> str:
    """The whole second in UTC, e.g. 2026-11-21T20:00:00Z."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
