"""What a page's address says and the frame offers: environment, time range, how fresh the page is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from django.urls import reverse

from budgets.models import Feature, Series, User
from budgets.status import WINDOWS

DEFAULT_ENVIRONMENT: Final = "production"
RANGES: Final = tuple(WINDOWS)


@dataclass(frozen=True)
class Frame:
    """What the bar under the header offers: environment, time range, how fresh the page is."""

    as_of: datetime
    environment: str = DEFAULT_ENVIRONMENT
    environments: Sequence[str] = ()
    range: str = ""
    ranges: Sequence[str] = ()
    is_live: bool = True
    every_s: int = 3
    """How often the page is refreshed while somebody is there."""


def environments_of(features: Iterable[Feature], chosen: str) -> list[str]:
    """Every environment that the features were measured in, production first, and the one in the URL."""
    found = set(Series.objects.filter(feature__in=features).values_list("environment", flat=True).distinct())
    return sorted(found | {DEFAULT_ENVIRONMENT, chosen}, key=lambda name: (name != DEFAULT_ENVIRONMENT, name))


def asked_environment(value: str | None) -> str:
    return (value or "").strip()[:200] or DEFAULT_ENVIRONMENT


def asked_range(value: str | None) -> str | None:
    """The range that the URL asks for; None, which is the objective's window, for one that does not exist."""
    return value if value in RANGES else None


def page_url(name: str, *args: object, **query: str | None) -> str:
    """An address with its query, without what is the default."""
    return with_query(reverse(name, args=args), **query)


def with_query(address: str, **query: str | None) -> str:
    kept = {key: value for key, value in query.items() if value}
    if kept.get("environment") == DEFAULT_ENVIRONMENT:
        del kept["environment"]
    return f"{address}?{urlencode(kept)}" if kept else address


def visible_features(user: User) -> Sequence[Feature]:
    """The features a person may see and that are still measured, each with its team."""
    return list(Feature.objects.visible_to(user).active().select_related("team").order_by("name"))
