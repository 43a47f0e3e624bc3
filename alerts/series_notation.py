"""How scenarios write series and durations: in promtool's notation, "0+10x60", "5x30", "_x5", and "1h30m"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

MAX_MINUTES: Final = 60 * 1440
"""Of one test: two objective windows."""
MAX_COUNT: Final = 1_000_000_000

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?")
_RUN = re.compile(r"(?P<start>\d+)(?:(?P<step>[+-]\d+))?(?:x(?P<times>\d+))?")
_SILENT_RUN = re.compile(r"_(?:x(?P<times>\d+))?")


def read_duration(text: str) -> timedelta:
    """Prometheus' durations, down to seconds. Raises ValueError.

    >>> read_duration("1h30m"), read_duration("0s")
    (datetime.timedelta(seconds=5400), datetime.timedelta(0))
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"Expected a duration such as 63m or 1h30m, got {text!r:.50}.")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def write_duration(duration: timedelta) -> str:
    """
    >>> write_duration(timedelta(minutes=62, seconds=59)), write_duration(timedelta(0))
    ('62m59s', '0m')
    """
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    return f"{minutes}m{seconds}s" if seconds else f"{minutes}m"


def expand(text: str) -> list[int]:
    """The counts of consecutive minutes; none where nothing was measured. See `expand_with_gaps`.

    >>> expand("0+10x3 5x2 _x2 7")
    [0, 10, 20, 30, 5, 5, 5, 0, 0, 7]
    """
    return [value or 0 for value in expand_with_gaps(text)]


def expand_with_gaps(text: str) -> list[int | None]:
    """The values of consecutive minutes, in promtool's notation; None where there is none. Raises ValueError.

    "a+bxn" is a and n more, each b more than the one before; "axn" is a and n more of it; "_xn" are n minutes in
    which nothing was measured.

    >>> expand_with_gaps("900x1 _x2 2400")
    [900, 900, None, None, 2400]
    """
    values: list[int | None] = []
    for word in text.split():
        silent, run = _SILENT_RUN.fullmatch(word), _RUN.fullmatch(word)
        if silent:
            start, step, length = 0, 0, _times(silent["times"], 1)
        elif run and not (run["step"] and run["times"] is None):
            start, step = int(run["start"][:20]), int((run["step"] or "0")[:20])
            length = _times(run["times"], 0) + 1
        else:
            raise ValueError(
                f"Expected counts such as 10, 5x30, 0+10x60 or _x5, divided by spaces, got {word!r:.50}."
            )
        if len(values) + length > MAX_MINUTES:
            raise ValueError(f"A series has at most {MAX_MINUTES} minutes.")
        if not all(0 <= value <= MAX_COUNT for value in (start, start + step * (length - 1))):
            raise ValueError(f"A count is between 0 and {MAX_COUNT}; {word!r:.50} leaves that.")
        values += [None if silent else start + step * n for n in range(length)]
    return values


def _times(text: str | None, default: int) -> int:
    return default if text is None else min(int(text[:9]), MAX_MINUTES + 1)
