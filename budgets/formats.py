"""How numbers, durations and instants read on a page: the same in tables, tiles, hover texts and sentences.

Three significant digits, and more only where fewer would make a value look equal to the limit it is
compared with. Every number is joined to its unit by a no-break space.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Final

from budgets.histogram import AtLeast

NBSP: Final = "\N{NO-BREAK SPACE}"
MINUS: Final = "\N{MINUS SIGN}"
NONE: Final = "\N{EN DASH}"  # where there is no data: never 0, which would be a value

UNIT_MS: Final = {"ms": 1.0, "s": 1_000.0, "min": 60_000.0, "h": 3_600_000.0}
# From this many of the smaller unit on, the larger one is easier to read: 119 s, but 2.00 min.
_LEAST_MS: Final = {"s": 1_000.0, "min": 120_000.0, "h": 7_200_000.0}

WINDOW_WORDS: Final = {
    "5m": "5 minutes",
    "30m": "30 minutes",
    "1h": "1 hour",
    "2h": "2 hours",
    "6h": "6 hours",
    "1d": "1 day",
    "3d": "3 days",
    "7d": "7 days",
    "28d": "28 days",
    "30d": "30 days",
}

Milliseconds = float | Decimal | AtLeast | None


_zone: ContextVar[tzinfo] = ContextVar("zone", default=UTC)


@contextmanager
def reading_in(zone: tzinfo) -> Iterator[None]:
    """Within it, instants are written by the clock of this zone: that of the person who reads the page."""
    token = _zone.set(zone)
    try:
        yield
    finally:
        _zone.reset(token)


def in_zone(at: datetime) -> datetime:
    """An instant by the reader's clock."""
    return at.astimezone(_zone.get())


def zone_word(at: datetime) -> str:
    """What the reader's zone is called at an instant: "UTC", "CET", or "+05:45" where it has no letters."""
    local = in_zone(at)
    word = local.tzname() or ""
    if word[:1] in "+-" or not word:
        offset = f"{local:%z}"
        return f"{offset[:3]}:{offset[3:5]}".replace("-", MINUS)
    return word


def zone_name() -> str:
    """The reader's zone, as a head of a column names it: "UTC", "Europe/Berlin"."""
    zone = _zone.get()
    return str(getattr(zone, "key", None) or zone)


def from_wall_clock(naive: datetime) -> datetime:
    """The instant at which the reader's clock shows this; the earlier one where it shows it twice."""
    return naive.replace(tzinfo=_zone.get()).astimezone(UTC)


def is_naive(text: str) -> bool:
    """Whether a text is a date and time without a zone, as a browser's field for it gives."""
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def significant(value: float, *, near: float | None = None, digits: int = 3) -> str:
    """A number with so many significant digits, or with as many more as it takes to differ from `near`.

    >>> significant(2890.4), significant(0.03141), significant(12345.6)
    ('2890', '0.0314', '12,346')
    >>> significant(3000.2, near=3000), significant(3000, near=3000), significant(2.9996, near=3)
    ('3000.2', '3000', '2.9996')
    """
    text = _rounded(value, digits)
    if near is not None and value != near:
        while float(text) == float(near) and digits < 17:
            digits += 1
            text = _rounded(value, digits)
    return _grouped(text)


def exact(value: float | Decimal) -> str:
    """A number that somebody chose, as they wrote it: no digit is invented and none is lost.

    >>> exact(Decimal("3000.000")), exact(0.5)
    ('3000', '0.5')
    """
    text = f"{Decimal(str(value)):f}"
    return _grouped(text.rstrip("0").rstrip(".") if "." in text else text)


def unit_of(values: Iterable[Milliseconds]) -> str:
    """The one unit of a column: that of its largest value, so that a column is compared without converting."""
    return _unit(max((_magnitude(value) for value in values if value is not None), default=0.0))


def column_unit(values: Iterable[Milliseconds]) -> str:
    """The one unit of a column of figures: milliseconds for as long as they can be read, up to 10 s."""
    unit = unit_of(found := list(values))
    return "ms" if unit == "s" and max(_magnitude(v) for v in found if v is not None) < 10_000 else unit


def column(
    values: Sequence[float | None], *, near: Sequence[float | None] = (), signed: bool = False
) -> list[str]:
    """The figures of a column whose unit stands in its head, all with as many places as the largest needs.

    `near` are the limits that they are compared with, of which none is rounded onto its own; `signed` ones say
    which way they go.

    >>> column([1300, 16.4, None]), column([2.104, 0.03], signed=True), column([800.2], near=[800])
    (['1300', '16', '–'], ['+2.10', '+0.03'], ['800.2'])
    """
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    places = len(_rounded(largest, 3).partition(".")[2])
    texts = []
    for n, value in enumerate(values):
        if value is None:
            texts.append(NONE)
            continue
        text, more = f"{abs(value):.{places}f}", places
        limit = near[n] if n < len(near) else None
        while limit is not None and value != limit and float(text) == abs(limit) and more < 17:
            more += 1
            text = f"{abs(value):.{more}f}"
        sign = "" if not float(text) else "-" if value < 0 else "+" if signed else ""
        texts.append(_grouped(f"{sign}{text}"))
    return texts


def duration(ms: Milliseconds, *, unit: str | None = None, near: Milliseconds = None) -> str:
    """A measured time with its unit: "812 ms", "1.84 s", "≥ 30.0 s" where timeouts hide the rest.

    `unit` is the column's; without it, the one that suits the value. `near` is the limit it is compared
    with: a value on either side of the limit never reads as if it were equal to it.
    """
    if ms is None:
        return NONE
    value = _magnitude(ms)
    unit = unit or _unit(value)
    limit = None if near is None else _magnitude(near) / UNIT_MS[unit]
    text = f"{significant(value / UNIT_MS[unit], near=limit)}{NBSP}{unit}"
    return f"≥{NBSP}{text}" if isinstance(ms, AtLeast) else text


def limit(ms: float | Decimal | None, *, unit: str | None = None) -> str:
    """A latency budget or an allocation, which is exact: "3 s", "1.5 s", "400 ms"."""
    if ms is None:
        return NONE
    unit = unit or _unit(float(ms))
    return f"{exact(Decimal(str(ms)) / Decimal(str(UNIT_MS[unit])))}{NBSP}{unit}"


def percent(
    ratio: float | Decimal | None, *, near: float | Decimal | None = None, decimals: int | None = None
) -> str:
    """A share in percent, three significant digits; with `decimals`, at least as many behind the point.

    What is short of all never reads 100 %, and what is not nothing never reads 0 %.
    """
    if ratio is None:
        return NONE
    value = float(Decimal(str(ratio)) * 100)
    limits = [100.0, 0.0] if near is None else [100.0, 0.0, float(Decimal(str(near)) * 100)]
    if value in (0.0, 100.0):
        return f"{exact(value)}{NBSP}%"
    digits = 3
    while True:
        text = _rounded(value, digits) if decimals is None else f"{value:.{decimals + digits - 3}f}"
        if digits >= 14 or all(float(text) != stop or value == stop for stop in limits):
            return f"{_grouped(text)}{NBSP}%"
        digits += 1


def objective(ratio: Decimal | float) -> str:
    """An objective, exactly as it was declared: "99 %", "99.95 %"."""
    return f"{exact(Decimal(str(ratio)) * 100)}{NBSP}%"


def count(number: float | None) -> str:
    """A whole number of things: "119,100". Halves of a request do not exist, so it rounds down."""
    return NONE if number is None else f"{math.floor(number):,}".replace("-", MINUS)


def burn_rate(rate: float | None, *, near: float | None = None) -> str:
    """How many times faster than even the error budget is spent: "15.2×"."""
    return NONE if rate is None else f"{significant(rate, near=near)}×"


def ago(at: datetime, now: datetime) -> str:
    """How long ago something was, in its largest unit: "12 s ago", "3 h ago", "in 5 min"."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    text = _largest_unit(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def lasting(seconds: float, *, parts: int = 2) -> str:
    """How long something lasted, in its two largest units, or so many: "4 min 10 s", "2 d 5 h"."""
    whole = max(0, int(seconds))
    found: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, whole = divmod(whole, size)
        if amount or (name == "s" and not found):
            found.append(f"{amount}{NBSP}{name}")
        elif found:
            break
    return " ".join(found[:parts])


def instant(at: datetime, *, seconds: bool = False, zone: bool = True) -> str:
    """An instant to the minute, or to the second, by the reader's clock and with its zone: "21 Nov 2026, 20:00 UTC"."""
    local = in_zone(at)
    text = f"{local.day} {local:%b %Y, %H:%M:%S}" if seconds else f"{local.day} {local:%b %Y, %H:%M}"
    return f"{text} {zone_word(at)}" if zone else text


def coming(at: datetime) -> str:
    """An instant of the days ahead, with its weekday: "Wed 25 Nov, 14:00 UTC"."""
    local = in_zone(at)
    return f"{local:%a} {local.day} {local:%b, %H:%M} {zone_word(at)}"


def day(at: datetime) -> str:
    """The day of an instant by the reader's clock: "21 Nov 2026"."""
    local = in_zone(at)
    return f"{local.day} {local:%b %Y}"


def between(start: datetime, end: datetime, *, seconds: bool = False) -> str:
    """A range with its zone: "21 Nov 2026, 20:00 – 21:00 UTC"; with both zones where a clock change lies between."""
    is_one_zone = zone_word(start) == zone_word(end)
    is_one_day = day(start) == day(end) and is_one_zone
    clock = f"{in_zone(end):%H:%M:%S}" if seconds else f"{in_zone(end):%H:%M}"
    until = f"{clock} {zone_word(end)}" if is_one_day else instant(end, seconds=seconds)
    return f"{instant(start, seconds=seconds, zone=not is_one_zone)} – {until}"


def window_words(window: str) -> str:
    """A window in words: "28 days"."""
    return WINDOW_WORDS.get(window, window)


def last(window: str) -> str:
    """The window that ends now, in words: "last 28 days", "last hour"."""
    return f"last {window_words(window).removeprefix('1 ')}"


def name(text: str) -> str:
    """A name within a sentence: what is written from right to left in it turns nothing around it.

    >>> name("tools") == "tools", name("a\N{RIGHT-TO-LEFT OVERRIDE}b") == "a b"
    (True, True)
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    if any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text):
        return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"
    return text


_APART: Final = re.compile(r"(?<=\d) (?=(?:ms|s|min|h|d|%|UTC)\b|%)")


def unbroken(text: str) -> str:
    """A sentence of which no line ends between a number and its unit.

    >>> unbroken("p99 55.8 s of 40 s, 18 % over") == "p99 55.8\N{NO-BREAK SPACE}s of 40\N{NO-BREAK SPACE}s, 18\N{NO-BREAK SPACE}% over"
    True
    """
    return _APART.sub(NBSP, text)


def _grouped(text: str) -> str:
    """A plain number with a true minus, and with commas from five digits on: 3000, but 12,346."""
    whole, point, rest = text.partition(".")
    if len(whole.lstrip("+-")) > 4:
        whole = f"{int(whole):{'+' if whole.startswith('+') else ''},}"
    return f"{whole}{point}{rest}".replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    """Plain decimal notation with at least so many significant digits; the integer part is never cut."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{value:.{max(places, 0)}f}"
    # 9.996 to three digits is 10.00, one digit too many.
    if places > 0 and math.floor(math.log10(abs(float(text)))) > math.floor(math.log10(abs(value))):
        text = f"{value:.{places - 1}f}"
    return text


def _magnitude(ms: float | Decimal | AtLeast) -> float:
    return ms.ms if isinstance(ms, AtLeast) else float(ms)


def _unit(ms: float) -> str:
    """The largest unit of which there is enough; decided after rounding, so that 999.7 ms is 1.00 s."""
    found = "ms"
    for unit, least in _LEAST_MS.items():
        if float(_rounded(ms, 3) if ms else 0) >= least:
            found = unit
    return found


def _largest_unit(seconds: float) -> str:
    for name, size in (("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount = int(seconds // size)
        if amount >= 1:
            return f"{amount}{NBSP}{'day' if name == 'days' and amount == 1 else name}"
    return f"0{NBSP}s"
