"""What a rule found, as a clause within a sentence: "12 of 300 timed out in 5 min". Plain text, without names."""

from __future__ import annotations

from datetime import UTC, datetime

from budgets import formats
from budgets.histogram import AtLeast


def timeouts(number: int, total: int, window: str) -> str:
    """ "12 of 300 timed out in 5 min"."""
    return plain(f"{formats.count(number)} of {formats.count(total)} timed out in {window_words(window)}")


def error_budget(threshold_ratio: float) -> str:
    """ "less than 25 % of the error budget left"."""
    if threshold_ratio <= 0:
        return "the error budget is exhausted"
    return plain(f"less than {threshold_ratio * 100:g}{formats.NBSP}% of the error budget left")


def threshold(percentile: str, ms: float, *, is_at_least: bool, threshold_ms: float, window: str) -> str:
    """ "p95 620 ms over 5 min, above 500 ms"."""
    measured = formats.duration(AtLeast(ms) if is_at_least else ms, near=threshold_ms)
    return plain(f"{percentile} {measured} over {window_words(window)}, above {formats.limit(threshold_ms)}")


def trend(percentile: str, growth_ratio: float) -> str:
    """ "p95 34 % above the day before, the median of 24 h"."""
    return plain(f"{percentile} {(growth_ratio - 1) * 100:.0f} % above the day before, the median of 24 h")


def forecast(earliest_hours: int | None, latest_hours: int | None) -> str:
    """ "the error budget will be gone within 30 to 37 h"."""
    if earliest_hours is None or latest_hours is None or earliest_hours == latest_hours:
        return f"the error budget will be gone within {latest_hours or earliest_hours} h"
    return f"the error budget will be gone within {earliest_hours} to {latest_hours} h"


def no_data(last_at: datetime) -> str:
    """ "no measurements since 02:51 UTC"."""
    return f"no measurements since {last_at.astimezone(UTC):%H:%M} UTC"


def unallocated(share_ratio: float, milestone: str, window: str) -> str:
    """ "not allocated, takes 7.2 % of the time to first token over 1 h"."""
    until = milestone.replace("_", " ")
    return plain(
        f"not allocated, takes {formats.percent(share_ratio)} of the time to {until} over {window_words(window)}"
    )


def window_words(name: str) -> str:
    """ "1h" as it reads in a sentence: "1 h"."""
    amount, unit = int(name[:-1]), name[-1]
    return f"{amount} {({'m': 'min', 'h': 'h', 'd': 'days'})[unit]}" if unit != "d" or amount > 1 else "1 day"


def plain(text: str) -> str:
    """Channels carry plain text, in which a no-break space only gets in the way of a search."""
    return text.replace(formats.NBSP, " ")
