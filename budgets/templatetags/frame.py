"""Template tags of the frame around every page."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.http import HttpRequest

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
