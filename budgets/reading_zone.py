"""Pages by the clock of who reads them: UTC, or the zone that their browser is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from typing import Final

from django.http import HttpRequest, HttpResponse

from budgets import formats
from budgets.zones import zone_of

COOKIE: Final = "zone"


class ReadInZone:
    """Writes the instants of a page by the clock that its visitor chose.

    The choice is a cookie, as the theme is, so that the first paint already has it. Addresses, files and the API are
    in UTC for everybody.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with formats.reading_in(chosen_zone(request)):
            return self._get_response(request)


def chosen_zone(request: HttpRequest) -> tzinfo:
    """The zone of the visitor's cookie; UTC where there is none, or none of that name."""
    return zone_of(request.COOKIES.get(COOKIE, "UTC"))
