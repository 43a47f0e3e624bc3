"""Reading the numbers that people type: milliseconds and percentages. Pure.

A number is taken as it was meant or not at all: "1.5 s" and "1500,0" are, "3.000" is not, because half of
the world reads three there and the other half three thousand. static/js/editor.js reads by the same rules.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from .documents import MAX_BUDGET_MS
from .formats import exact

UNITS_MS: Final = {
    "": 1,
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hour", "hours"), 3_600_000),
}
_QUANTITY: Final = re.compile(r"([+\u2212-]?)([\d.,'\u2019 ]*)([a-z%]*)", re.ASCII)
# Groups of three, parted by one sign throughout.
_GROUPED: Final = re.compile(r"\d{1,3}(?:([.,' ])\d{3})(?:\1\d{3})*", re.ASCII)
_PLAIN: Final = re.compile(r"\d+", re.ASCII)
# What may be three or three thousand.
_AMBIGUOUS: Final = re.compile(r"([1-9]\d{0,2})[.,](\d{3})", re.ASCII)
_MAX_LENGTH: Final = 40


class Unreadable(ValueError):
    """What was typed is no such quantity; the message says what would be."""


def read_ms(text: str) -> Decimal:
    """A latency budget or an allocation in ms. Raises Unreadable.

    >>> [str(read_ms(text)) for text in ("3000", "3 s", "1,5 s", "12 000", "1.234,5 ms")]
    ['3000', '3000', '1500', '12000', '1234.5']
    """
    sign, number, unit = _parts(text)
    if not text.strip():
        raise Unreadable("Write milliseconds, such as 3000, or 3 s.")
    if not number:
        raise Unreadable(f"{_quoted(text)} is no duration. Write milliseconds, such as 3000, or 3 s.")
    if unit not in UNITS_MS:
        hint = "min for minutes or ms for milliseconds" if unit == "m" else "ms, s, min or h"
        raise Unreadable(f"{_quoted(text)} has a unit that is not known. Write {hint}.")
    if match := _AMBIGUOUS.fullmatch(number):
        whole, rest = match.groups()
        less = Decimal(f"{whole}.{rest}") * UNITS_MS[unit]
        more = Decimal(whole + rest) * UNITS_MS[unit]
        raise Unreadable(
            f"{_quoted(text)} can be read as {_plain(less)} ms or as {_plain(more)} ms. Write one of these."
        )
    ms = _decimal(number, text) * UNITS_MS[unit]
    if sign in ("-", "\u2212") or not 0 < ms <= MAX_BUDGET_MS:
        raise Unreadable(f"Write more than 0 ms and at most {exact(MAX_BUDGET_MS)} ms, which is seven days.")
    if ms != round(ms, 3):
        raise Unreadable(
            f"{_quoted(text)} is finer than a microsecond. Write at most three decimals of a ms."
        )
    return ms.normalize() if ms != ms.to_integral_value() else ms.quantize(Decimal(1))


def read_objective(text: str) -> Decimal:
    """An objective, typed in percent, as a share between 0 and 1. Raises Unreadable.

    >>> [str(read_objective(text)) for text in ("99", "99.9 %", "99,95")]
    ['0.99', '0.999', '0.9995']
    """
    if not text.strip():
        raise Unreadable("Write a percentage, such as 99 or 99.9.")
    sign, number, unit = _parts(text)
    if not number or unit not in ("", "%"):
        raise Unreadable(f"{_quoted(text)} is no percentage. Write one such as 99 or 99.9.")
    # Thousands of percent do not exist: a single point or comma is a decimal one.
    percent = _decimal(number, text)
    if percent >= 100:
        raise Unreadable(
            "All of them is no objective: a single slow request would break it. Write 99.9, say."
        )
    if sign in ("-", "\u2212") or not percent:
        raise Unreadable("Write more than 0 % and less than 100 %, such as 99.")
    if percent < 1 and not unit:
        raise Unreadable(
            f"{_quoted(text)} is less than 1 %. Write the objective in percent: {_plain(percent * 100)} "
            f"for {_plain(percent * 100)} %."
        )
    if percent != round(percent, 4):
        raise Unreadable(f"{_quoted(text)} has too many decimals. Write at most four.")
    return percent.scaleb(-2)


def typed_ms(ms: Decimal | float) -> str:
    """Milliseconds as somebody may have typed them: `read_ms` reads the same number again.

    >>> typed_ms(3000.0), typed_ms(0.5), typed_ms(1.125)
    ('3000', '0.5', '1.1250')
    """
    text = _plain(Decimal(str(ms)))
    return f"{text}0" if _AMBIGUOUS.fullmatch(text) else text


def typed_objective(ratio: Decimal | float) -> str:
    """An objective in percent, as `read_objective` reads it.

    >>> typed_objective(0.999), typed_objective(0.005)
    ('99.9', '0.5 %')
    """
    percent = Decimal(str(ratio)) * 100
    return _plain(percent) if percent >= 1 else f"{_plain(percent)} %"


def _parts(text: str) -> tuple[str, str, str]:
    """Sign, number and unit; an empty number where it is none of these."""
    clean = " ".join(text.split()).casefold()
    match = _QUANTITY.fullmatch(clean.replace("\u2019", "'")) if len(clean) <= _MAX_LENGTH else None
    if match is None:
        return "", "", ""
    sign, number, unit = match.groups()
    return sign, number.strip(), unit


def _decimal(number: str, text: str) -> Decimal:
    """A number in which at most the last point or comma is a decimal one. Raises Unreadable."""
    if _PLAIN.fullmatch(number):
        return Decimal(number)
    whole, mark, rest = _split(number)
    if mark and _PLAIN.fullmatch(rest):
        if not whole or _PLAIN.fullmatch(whole):
            return Decimal(f"{whole or 0}.{rest}")
        grouped = _GROUPED.fullmatch(whole)
        if grouped and grouped[1] != mark:
            return Decimal(f"{re.sub(r'[^0-9]', '', whole)}.{rest}")
    if _GROUPED.fullmatch(number):
        return Decimal(re.sub(r"[^0-9]", "", number))
    raise Unreadable(f"{_quoted(text)} is no number. Write digits and at most one decimal point.")


def _split(number: str) -> tuple[str, str, str]:
    """What stands before and after the last point or comma."""
    at = max(number.rfind("."), number.rfind(","))
    return (number, "", "") if at < 0 else (number[:at], number[at], number[at + 1 :])


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _quoted(text: str) -> str:
    short = " ".join(text.split())
    return f"“{short}”" if len(short) <= _MAX_LENGTH else f"“{short[:_MAX_LENGTH]}…”"
