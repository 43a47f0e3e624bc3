"""Template tags of the frame around every page."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.conf import settings
from django.http import HttpRequest

from budgets import formats

register = template.Library()

THEMES = ("auto", "light", "dark")


@register.filter
def theme(request: HttpRequest | None) -> str:
    """The theme that a visitor chose. It is a cookie, so that the first paint already has it."""
    chosen = request.COOKIES.get("theme", "") if request else ""
    return chosen if chosen in THEMES else "auto"


@register.simple_tag
def version() -> str:
    return str(settings.VERSION)


@register.simple_tag
def reading_zone() -> str:
    """The zone by whose clock the page is written: "UTC", "Europe/Berlin"."""
    return formats.zone_name()


@register.simple_tag
def clock(at: datetime) -> str:
    """The time of day of an instant, to the second and with its zone: "20:00:00 UTC"."""
    return f"{formats.in_zone(at):%H:%M:%S} {formats.zone_word(at)}"


@register.simple_tag
def wall_clock(at: datetime | None) -> str:
    """An instant as a browser's field for date and time takes it, by the reader's clock."""
    return f"{formats.in_zone(at):%Y-%m-%dT%H:%M}" if at else ""


@register.simple_tag
def between(start: datetime, end: datetime, seconds: bool = False) -> str:
    return formats.between(start, end, seconds=seconds)
