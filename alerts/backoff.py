"""When a delivery that failed is tried again, and when it is given up."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

# A receiver that restarts is back within seconds, and someone may be waiting for the page.
FIRST_DELAY_S = 5.0
# A receiver that was away for hours gets its alert within half an hour of its return; about 60 tries a day.
LONGEST_DELAY_S = 1800.0
# A Retry-After of a week is a mistake of the receiver and must not silence an incident for a week.
LONGEST_RETRY_AFTER_S = 3600.0
# Past a day an alert is history; the incident itself is still on the page.
GIVE_UP_AFTER = timedelta(hours=24)


def next_attempt_at(
    *,
    attempts_made: int,
    first_due_at: datetime,
    now: datetime,
    retry_after_s: float | None = None,
    random_ratio: Callable[[], float] = random.random,
) -> datetime | None:
    """The instant of the next try, or None once it would come later than 24 h after the message was due.

    The delay doubles with every try, 5 s after the first and at most 30 min, and is then shortened by a
    random part of up to half, so that the messages of one outage do not come back as one wave. What
    the receiver asked for by Retry-After, up to an hour, is never undercut but overrun by up to a tenth.

    `random_ratio` gives a number in [0, 1).

    >>> from datetime import UTC
    >>> due_at = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
    >>> at = next_attempt_at(attempts_made=3, first_due_at=due_at, now=due_at, random_ratio=lambda: 0.5)
    >>> (at - due_at).total_seconds()  # 20 s, of which a quarter is taken off
    15.0
    """
    # 2 ** 20 is past the longest delay already; a float overflows at 2 ** 1024.
    delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempts_made - 1, 20))
    delay_s *= 1 - random_ratio() / 2
    if retry_after_s is not None:
        delay_s = max(delay_s, min(retry_after_s, LONGEST_RETRY_AFTER_S) * (1 + random_ratio() / 10))
    at = now + timedelta(seconds=delay_s)
    return at if at <= first_due_at + GIVE_UP_AFTER else None
