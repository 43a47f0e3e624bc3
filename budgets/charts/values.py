"""Values and names as a figure holds them: rounded for a pixel, in naive UTC, without pseudo-HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from budgets.histogram import AtLeast

Percentile = float | AtLeast | None
# The three percentiles differ by dash and weight, so that they are told apart without colour.
LINES: Final = (
    ("p50", {"dash": "dot", "width": 1.5, "color": "var(--line-p50)"}),
    ("p95", {"dash": "dash", "width": 1.5, "color": "var(--line-p95)"}),
    ("p99", {"dash": "solid", "width": 1.75, "color": "var(--line-p99)"}),
)


def plain(text: str, *, at_most: int | None = None) -> str:
    """A name as Plotly shows it letter by letter: no tag, link or entity of it takes effect.

    >>> plain('<a href="javascript:x">tools & co</a>', at_most=15)
    '&lt;a href="javas…'
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    if at_most is not None and len(text) > at_most:
        text = f"{text[: at_most - 1].rstrip()}…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_ms(value: float | Decimal | None) -> float | None:
    """Four significant digits and never less than a whole ms: what a pixel can show."""
    if value is None:
        return None
    number = float(value)
    return round(number, 1) if abs(number) >= 1000 else round(number, 4)


def as_raw(value: Percentile) -> float | str | None:
    """A percentile for programs; one among timeouts says what it is known to reach."""
    return f">={value.ms}" if isinstance(value, AtLeast) else value


def naive(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
