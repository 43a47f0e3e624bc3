"""Template tags that write numbers, times and states as every page writes them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets import formats
from budgets.instants import rfc3339

register = template.Library()

STATES: Final[dict[str, tuple[str, str]]] = {
    "breached": ("✕", "Breached"),
    "at_risk": ("▲", "At risk"),
    "no_data": ("–", "No data"),
    "ok": ("✓", "OK"),
    "unallocated": ("◇", "Unallocated"),
    "open": ("✕", "Open"),
    "acknowledged": ("▲", "Acknowledged"),
    "resolved": ("✓", "Resolved"),
    "firing": ("✕", "Firing"),
    "delivered": ("✓", "Delivered"),
    "recovering": ("▲", "Recovering"),
    "inactive": ("✓", "Quiet"),
    "pending": ("–", "Waiting"),
    "undeliverable": ("✕", "Given up"),
    "superseded": ("–", "Superseded"),
    "sending": ("–", "Under way"),
    "failed": ("✕", "Failed"),
    "interrupted": ("–", "Interrupted"),
    "enabled": ("✓", "Enabled"),
    "disabled": ("–", "Disabled"),
    "deleted": ("–", "Deleted"),
}
"""Icon and word of every state a page shows. The colour comes third: it is never the only sign."""

register.filter("duration", formats.duration)
register.filter("limit_ms", formats.limit)
register.filter("count", formats.count)
register.filter("unbroken", formats.unbroken)
register.filter("objective", formats.objective)
register.filter("window_words", formats.window_words)


@register.simple_tag
def duration(ms: formats.Milliseconds, unit: str | None = None, near: formats.Milliseconds = None) -> str:
    """A measured time, in the column's unit and never rounded onto the limit it is compared with."""
    return formats.duration(ms, unit=unit, near=near)


@register.simple_tag
def limit(ms: float | Decimal | None, unit: str | None = None) -> str:
    return formats.limit(ms, unit=unit)


@register.simple_tag
def percent(ratio: float | None, near: float | Decimal | None = None, decimals: int | None = None) -> str:
    return formats.percent(ratio, near=near, decimals=decimals)


@register.simple_tag
def burn_rate(rate: float | None, near: float | None = None) -> str:
    return formats.burn_rate(rate, near=near)


@register.simple_tag
def lasting(start: datetime, end: datetime) -> str:
    return formats.lasting((end - start).total_seconds())


@register.simple_tag
def instant(at: datetime, now: datetime | None = None, seconds: bool = False) -> SafeString:
    """A <time> with its zone; with `now` also how long ago, which the page keeps current."""
    text = formats.instant(at, seconds=seconds)
    if now is None:
        return format_html('<time datetime="{}">{}</time>', rfc3339(at), text)
    return format_html(
        '<time datetime="{}">{}</time> <span class="soft">(<time datetime="{}" data-ago>{}</time>)</span>',
        rfc3339(at),
        text,
        rfc3339(at),
        formats.ago(at, now),
    )


@register.simple_tag
def day(at: datetime) -> SafeString:
    """The day of an instant, with the instant itself as a title."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', rfc3339(at), formats.instant(at), formats.day(at)
    )


@register.simple_tag
def ago(at: datetime, now: datetime) -> SafeString:
    """How long ago, with the instant itself as a title; the page keeps it current."""
    return format_html(
        '<time datetime="{}" title="{}" data-ago>{}</time>',
        rfc3339(at),
        formats.instant(at, seconds=True),
        formats.ago(at, now),
    )


@register.filter
def state_icon(state: Any) -> str:
    return STATES.get(str(state), ("–", ""))[0]


@register.filter
def state_word(state: Any) -> str:
    return STATES.get(str(state), ("", str(state)))[1]


@register.filter
def words(name: str) -> str:
    """A name of the code as a person reads it: "too_many_attempts" → "too many attempts"."""
    return name.replace("_", " ")
