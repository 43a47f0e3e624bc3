"""What one target did, minute by minute, and the moments at which its rules are asked about it.

Two moments of every minute: as it begins, when nothing of it is known yet, and at its last second, when all of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from budgets.burn_rates import BURN_RATE_WINDOWS

from .latency_rules import Measured
from .percentiles import Percentiles
from .rules import WindowCounts

MOMENTS_PER_MINUTE: Final = 2

_MINUTE: Final = timedelta(minutes=1)
_LAST_SECOND: Final = timedelta(seconds=59)
COUNTERS: Final = tuple(field.name for field in fields(WindowCounts))

Booleans = NDArray[np.bool_]
Counters = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TimeTaken:
    """How long the requests of each minute took in a component, in ms all together, how many of them were
    `measured`, and how long until each milestone, the later one first. Arrays as long as the minutes."""

    component_ms: Floats
    measured: Counters
    milestones_ms: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Minutes:
    """The counters of one target in consecutive minutes, the first of which begins at `start` (aware, on the
    minute): int64 arrays of one length. Before it, nothing was measured.

    `percentiles` and `time_taken` are there for the rules that look at them.
    """

    start: datetime
    judged: Counters
    good: Counters
    over: Counters
    total: Counters
    errors: Counters
    timeouts: Counters
    percentiles: Percentiles | None = None
    time_taken: TimeTaken | None = None

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.start.second or self.start.microsecond:
            raise ValueError(f"minutes start on an aware, whole minute, got {self.start.isoformat()}")
        if len({len(getattr(self, name)) for name in COUNTERS}) > 1:
            raise ValueError("every counter needs as many minutes as the others")

    @classmethod
    def of(cls, start: datetime, *, good: Any, bad: Any) -> Self:
        """Minutes in which all was judged, and whatever was bad was over its limit: slow, not failed."""
        good, bad = np.asarray(good, dtype=np.int64), np.asarray(bad, dtype=np.int64)
        nothing = np.zeros_like(good)
        return cls(
            start, judged=good + bad, good=good, over=bad, total=good + bad, errors=nothing, timeouts=nothing
        )

    def __len__(self) -> int:
        return len(self.total)

    @property
    def end(self) -> datetime:
        return self.start + len(self) * _MINUTE

    # Moments

    @property
    def moments(self) -> int:
        return MOMENTS_PER_MINUTE * len(self)

    def instant(self, moment: int) -> datetime:
        """When a moment is: even ones as a minute begins, odd ones at its last second."""
        minute, is_end = divmod(moment, MOMENTS_PER_MINUTE)
        return self.start + minute * _MINUTE + (_LAST_SECOND if is_end else timedelta(0))

    def moment(self, at: datetime) -> int:
        """The first moment that is not before an instant."""
        minute, rest = divmod(at - self.start, _MINUTE)
        return MOMENTS_PER_MINUTE * minute + (0 if not rest else 1 if rest <= _LAST_SECOND else 2)

    def known(self, moment: int) -> tuple[int, int]:
        """The minute that runs at a moment, and of how many minutes anything is known then."""
        minute, is_end = divmod(moment, MOMENTS_PER_MINUTE)
        return minute, minute + is_end

    @property
    def minutes_known(self) -> Counters:
        """Of how many minutes anything is known, at every moment."""
        return (np.arange(self.moments) + 1) // MOMENTS_PER_MINUTE

    def hour_begins(self, minute: Any) -> Any:
        """The minute with which the clock hour of a minute begins, which may be before the first: of one or an array."""
        return minute - (self.start.minute + minute) % 60

    @property
    def known_percentiles(self) -> Percentiles:
        """Raises ValueError where there are none."""
        if self.percentiles is None:
            raise ValueError("a rule that looks at percentiles needs them of the minutes")
        return self.percentiles

    @property
    def known_time_taken(self) -> TimeTaken:
        """Raises ValueError where it is not there."""
        if self.time_taken is None:
            raise ValueError("a rule that looks at the time of components needs it of the minutes")
        return self.time_taken

    @cached_property
    def percentile_of_hour(self) -> Callable[[int, str], Measured]:
        """(the first minute of an hour, "p95") → its percentile."""

        @cache
        def of_hour(first: int, name: str) -> Measured:
            end = max(0, min(first + 60, len(self)))
            return self.known_percentiles.over(first, end, name)

        return of_hour

    @cached_property
    def measured_minutes(self) -> NDArray[np.intp]:
        """Those in which anything was measured."""
        return np.flatnonzero(self.total)

    def window(self, name: str, counter: str) -> Counters:
        """A counter over a window, at every moment."""
        return self._windows(name, counter)

    def last_minute(self, counter: str) -> Counters:
        """A counter over the last full minute, at every moment."""
        values = getattr(self, counter)
        return np.repeat(np.concatenate(([0], values[:-1])), MOMENTS_PER_MINUTE)

    def counts(self, first: int, end: int) -> WindowCounts:
        """All counters of the minutes in [first, end)."""
        first, end = max(first, 0), max(end, 0)
        return WindowCounts(
            **{name: int(added_up[end] - added_up[first]) for name, added_up in self.added_up.items()}
        )

    @cached_property
    def added_up(self) -> Mapping[str, Counters]:
        """Of each counter, at n: all of the first n minutes."""
        return {name: np.concatenate(([0], np.cumsum(getattr(self, name)))) for name in COUNTERS}

    @cached_property
    def _windows(self) -> Callable[[str, str], Counters]:
        @cache
        def added(name: str, counter: str) -> Counters:
            return at_moments(self.added_up[counter], minutes_of(name))

        return added


def at_moments(added_up: Counters, length: int) -> Counters:
    """What the last `length` minutes hold, up to the one that runs, at every moment; `added_up` has, at n, all of
    the first n minutes."""
    minutes = len(added_up) - 1
    before = np.concatenate((np.zeros(length - 1, dtype=added_up.dtype), added_up))[:minutes]
    sums = np.empty((minutes, MOMENTS_PER_MINUTE), dtype=added_up.dtype)
    np.subtract(added_up[:-1], before, out=sums[:, 0])  # of the running minute nothing is known yet
    np.subtract(added_up[1:], before, out=sums[:, 1])
    return sums.reshape(-1)


def minutes_of(window: str) -> int:
    return BURN_RATE_WINDOWS[window] // _MINUTE
