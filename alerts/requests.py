"""What operations on alerts read of a request: whose key it is, and the body as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpRequest

from budgets.errors import Refusal
from budgets.models import IngestKey


def key_of(request: HttpRequest) -> IngestKey:
    """The key that the request came with; the operation's auth has checked it."""
    key: IngestKey = request.auth  # type: ignore[attr-defined]
    return key


def actor_of(request: HttpRequest) -> str:
    """The key as the audit log names it."""
    return f"key {key_of(request).name}"


def body_of(request: HttpRequest) -> Any:
    """The body. Raises Refusal("malformed_json")."""
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was saved.") from error
