"""Instants as they come in paths and queries."""

from __future__ import annotations

from datetime import UTC, datetime

from budgets.errors import Refusal


def read_instant(name: str, text: str) -> datetime:
    """RFC 3339 with a zone, or Unix seconds, as aware UTC. Raises Refusal("invalid_instant")."""
    try:
        try:
            at = datetime.fromtimestamp(float(text), tz=UTC)
        except ValueError:
            # A plus sign in a query arrives as a space.
            at = datetime.fromisoformat(
                text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text
            )
        if at.tzinfo is None or not 1970 <= at.year < 9999:
            raise ValueError("no zone")
        return at.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Refusal(
            "invalid_instant",
            f"{name} must be RFC 3339 with a zone (2026-11-21T20:00:00Z) or Unix seconds, got {text!r:.100}.",
            fields={name: ["Expected RFC 3339 with a zone, or Unix seconds."]},
        ) from error
