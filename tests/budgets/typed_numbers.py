"""Milliseconds as people type them, for the server's reader and for the browser's, which must agree."""

from __future__ import annotations

MILLISECONDS = {
    "3000": "3000",
    " 3000 ms ": "3000",
    "3s": "3000",
    "3 s": "3000",
    "1.5 s": "1500",
    "1,5 sec": "1500",
    "2 min": "120000",
    "1 h": "3600000",
    "0.5": "0.5",
    "0,125": "0.125",
    ".5 s": "500",
    "12 000": "12000",
    "12\N{NO-BREAK SPACE}000\N{NO-BREAK SPACE}ms": "12000",
    "1'000": "1000",
    "1,234,000": "1234000",
    "1.234.000": "1234000",
    "1,234.5": "1234.5",
    "1.234,5": "1234.5",
    "12 000,5": "12000.5",
    "1.1250": "1.125",
    "3 S": "3000",
}

UNREADABLE_MILLISECONDS = {
    "": "Write milliseconds, such as 3000, or 3 s.",
    "fast": "“fast” is no duration",
    "3,000": "can be read as 3 ms or as 3000 ms",
    "1.500 s": "can be read as 1500 ms or as 1500000 ms",
    "5 m": "min for minutes or ms for milliseconds",
    "5 days": "Write ms, s, min or h",
    "0": "more than 0 ms",
    "-3": "more than 0 ms",
    "169 h": "at most 604,800,000 ms",
    "0.0001": "three decimals",
    "1.0001": "three decimals",
    "1 2": "no number",
    "1.2.3": "no number",
    "3.": "no number",
    "1e3": "no duration",
    "３": "no duration",
    "9" * 50: "no duration",
}
