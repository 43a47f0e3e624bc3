"""What operations on alerts read of a request: whose key it is, and the body as JSON."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from django.db import models
from django.http import HttpRequest

from budgets.errors import Refusal
from budgets.models import IngestKey

Row = TypeVar("Row", bound=models.Model)


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


def id_of(text: str) -> int:
    """A row's number in a path; 0, which no row has, where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def named(request: HttpRequest, rows: models.QuerySet[Row], name: str) -> Row:
    """The row of this name in the key's team. Raises Refusal("unknown_channel", 404), and so by the name of each
    model, also where it is another team's."""
    team = key_of(request).team
    found = None if "\0" in name else rows.filter(team=team, name=name).first()
    if found is None:
        what = str(rows.model._meta.verbose_name)
        raise Refusal(
            f"unknown_{what.replace(' ', '_')}",
            f"There is no {what} {name!r:.220} in team {team.slug!r}.",
            status=404,
        )
    return found
