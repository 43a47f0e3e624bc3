"""What the database takes of what somebody typed."""

from __future__ import annotations


def is_storable(text: str) -> bool:
    """Whether PostgreSQL's text takes it: neither U+0000 nor half of a pair of surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
