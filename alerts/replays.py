"""What the rules would have said, minute by minute, of counters that are given: the real decisions, replayed.

`replay` asks `alerts.rules.decide` as evaluations do, at two moments of every minute: as it begins, when
nothing of it is known yet, and at its last second, when all of it is. Moments at which the counters alone
show that nothing can change are skipped, which makes a month take milliseconds; the transitions are the same.

What a milestone's rules say together is an `Episode`: what would have been one incident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from budgets.burn_rates import BURN_RATE_WINDOWS, Severity, error_budget_ratio

from .rules import (
    OUTAGE_MIN_BAD,
    OUTAGE_WINDOW,
    OVERRUN_MAX_CHANCE,
    OVERRUN_MIN_MEASURED,
    OVERRUN_MIN_OVER,
    OVERRUN_WINDOW,
    BurnRateRule,
    ComponentOverrunRule,
    Decision,
    Observation,
    OutageRule,
    Previous,
    Rule,
    Status,
    WindowCounts,
    decide,
)
from .series_rules import TIMEOUTS_WINDOW, TimeoutsRule

MOMENTS_PER_MINUTE: Final = 2

REOPENS_WITHIN: Final = timedelta(minutes=30)
"""What fires again so soon after its end is the same incident."""

_MINUTE: Final = timedelta(minutes=1)
_LAST_SECOND: Final = timedelta(seconds=59)
_COUNTERS: Final = tuple(field.name for field in fields(WindowCounts))
# The quotients that rules compare are rounded once; what lies this near to a bound is asked for.
_CLOSE: Final = 1e-9

Booleans = NDArray[np.bool_]
Counters = NDArray[np.int64]


@dataclass(frozen=True)
class Minutes:
    """The counters of one target in consecutive minutes, the first of which begins at `start` (aware, on the
    minute): int64 arrays of one length. Before it, nothing was measured."""

    start: datetime
    judged: Counters
    good: Counters
    over: Counters
    total: Counters
    errors: Counters
    timeouts: Counters

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.start.second or self.start.microsecond:
            raise ValueError(f"minutes start on an aware, whole minute, got {self.start.isoformat()}")
        if len({len(getattr(self, name)) for name in _COUNTERS}) > 1:
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

    def observation(self, rule: Rule, moment: int) -> Observation:
        """What the rule is shown at a moment: its windows, up to the end of the minute that runs."""
        minute, is_end = divmod(moment, MOMENTS_PER_MINUTE)
        return Observation(
            {name: self._counts(minute + 1 - _minutes_of(name), minute + is_end) for name in rule.windows},
            self._counts(minute - 1, minute),
        )

    def window(self, name: str, counter: str) -> Counters:
        """A counter over a window, at every moment."""
        return self._windows(name, counter)

    def last_minute(self, counter: str) -> Counters:
        """A counter over the last full minute, at every moment."""
        values = getattr(self, counter)
        return np.repeat(np.concatenate(([0], values[:-1])), MOMENTS_PER_MINUTE)

    def _counts(self, first: int, end: int) -> WindowCounts:
        first = max(first, 0)
        return WindowCounts(
            **{name: int(added_up[end] - added_up[first]) for name, added_up in self._added_up.items()}
        )

    @cached_property
    def _added_up(self) -> Mapping[str, Counters]:
        """Of each counter, at n: all of the first n minutes."""
        return {name: np.concatenate(([0], np.cumsum(getattr(self, name)))) for name in _COUNTERS}

    @cached_property
    def _windows(self) -> Callable[[str, str], Counters]:
        @cache
        def added(name: str, counter: str) -> Counters:
            added_up, length = self._added_up[counter], _minutes_of(name)
            before = np.concatenate((np.zeros(length - 1, dtype=np.int64), added_up))[: len(self)]
            sums = np.empty((len(self), MOMENTS_PER_MINUTE), dtype=np.int64)
            np.subtract(added_up[:-1], before, out=sums[:, 0])  # of the running minute nothing is known yet
            np.subtract(added_up[1:], before, out=sums[:, 1])
            return sums.reshape(-1)

        return added


def _minutes_of(window: str) -> int:
    return BURN_RATE_WINDOWS[window] // _MINUTE


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule changed its status or severity."""

    at: datetime
    before: Status
    decision: Decision

    @property
    def status(self) -> Status:
        return self.decision.status


def is_replayable(rule: Rule) -> bool:
    """Whether a rule decides by counters over windows, which is what can be replayed."""
    return type(rule) in _OUTLOOKS


def replay(
    rule: Rule, minutes: Minutes, *, since: datetime | None = None, is_every_moment_asked: bool = False
) -> Iterator[Transition]:
    """What changed of a rule that was inactive at first, in order.

    Asked from `since` on, by default from the first minute; minutes before it only fill windows.
    """
    moment = 0 if since is None else max(0, minutes.moment(since))
    if not is_replayable(rule):
        raise ValueError(f"{type(rule).__name__} does not decide by counters over windows")
    outlook = None if is_every_moment_asked else _OUTLOOKS[type(rule)](rule, minutes)
    previous = Previous(Status.INACTIVE, minutes.instant(moment))
    while True:
        if outlook is not None:
            moment = outlook.next(previous, moment)
        if moment >= minutes.moments:
            return
        now = minutes.instant(moment)
        decision = decide(rule, minutes.observation(rule, moment), previous, now)
        if (decision.status, decision.severity) != (previous.status, previous.severity):
            yield Transition(now, previous.status, decision)
        previous = decision.remembered()
        moment += 1


# What need not be asked


class _Outlook:
    """At which moments a rule has to be asked."""

    def __init__(self, *, may_hold: Booleans, surely_holds: Booleans, severity: Severity) -> None:
        """
        `may_hold` is true at least wherever the condition holds, `surely_holds` at most where it holds or is
        merely stale and firing has `severity`, the rule's highest.
        """
        self._may_start = np.flatnonzero(may_hold)
        self._may_end = np.flatnonzero(~surely_holds)
        self._moments = len(may_hold)
        self._severity = severity

    def next(self, previous: Previous, moment: int) -> int:
        """The first moment from this one on at which something may change."""
        if previous.status == Status.INACTIVE:
            return self._first(self._may_start, moment)
        is_settled = previous.no_data_since is None and previous.severity == self._severity
        if previous.status == Status.FIRING and is_settled:
            return self._first(self._may_end, moment)
        return moment

    def _first(self, moments: NDArray[np.intp], moment: int) -> int:
        place = int(np.searchsorted(moments, moment))
        return int(moments[place]) if place < len(moments) else self._moments


def _burn_rate_outlook(rule: BurnRateRule, minutes: Minutes) -> _Outlook:
    tier = rule.tier
    allowed_ratio = tier.factor * error_budget_ratio(rule.objective)
    may_hold, surely_holds = np.ones((2, minutes.moments), dtype=bool)
    for name in rule.windows:
        judged = minutes.window(name, "judged")
        bad, allowed = judged - minutes.window(name, "good"), allowed_ratio * judged
        may_hold &= bad > allowed * (1 - _CLOSE)
        if name in (tier.long, tier.short):  # without the last hour it is merely stale
            surely_holds &= bad > allowed * (1 + _CLOSE)
    return _Outlook(may_hold=may_hold, surely_holds=surely_holds, severity=rule.severity or tier.severity)


def _outage_outlook(rule: OutageRule, minutes: Minutes) -> _Outlook:
    judged, good = minutes.window(OUTAGE_WINDOW, "judged"), minutes.window(OUTAGE_WINDOW, "good")
    last_judged, last_good = minutes.last_minute("judged"), minutes.last_minute("good")
    holds = (
        (2 * (judged - good) > judged)
        & (2 * (last_judged - last_good) > last_judged)
        & (judged - good >= OUTAGE_MIN_BAD)
    )
    return _Outlook(may_hold=holds, surely_holds=holds, severity=rule.severity or Severity.PAGE)


def _component_overrun_outlook(rule: ComponentOverrunRule, minutes: Minutes) -> _Outlook:
    judged, over = minutes.window(OVERRUN_WINDOW, "judged"), minutes.window(OVERRUN_WINDOW, "over")
    allowed_ratio = error_budget_ratio(rule.objective)
    may_hold = (
        (over > allowed_ratio * (1 - _CLOSE) * judged)
        & (judged >= OVERRUN_MIN_MEASURED)
        & (over >= OVERRUN_MIN_OVER)
    )
    surely_holds = may_hold & (over > allowed_ratio * (1 + _CLOSE) * judged)
    at = np.flatnonzero(may_hold)
    chance = bdtrc(over[at] - 1, judged[at], allowed_ratio)
    may_hold[at] &= chance < OVERRUN_MAX_CHANCE * (1 + _CLOSE)
    surely_holds[at] &= chance < OVERRUN_MAX_CHANCE * (1 - _CLOSE)
    return _Outlook(may_hold=may_hold, surely_holds=surely_holds, severity=rule.severity or Severity.TICKET)


def _timeouts_outlook(rule: TimeoutsRule, minutes: Minutes) -> _Outlook:
    total, timeouts = minutes.window(TIMEOUTS_WINDOW, "total"), minutes.window(TIMEOUTS_WINDOW, "timeouts")
    holds = (timeouts > rule.share_ratio * total) & (timeouts >= rule.min_timeouts)
    return _Outlook(may_hold=holds, surely_holds=holds, severity=rule.severity or Severity.TICKET)


_OUTLOOKS: Final[Mapping[type[Rule], Callable[[Any, Minutes], _Outlook]]] = {
    BurnRateRule: _burn_rate_outlook,
    OutageRule: _outage_outlook,
    ComponentOverrunRule: _component_overrun_outlook,
    TimeoutsRule: _timeouts_outlook,
}


# Several rules together


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules of a target say together from `at` on, until the next."""

    at: datetime
    severity: Severity | None
    """The highest of those that fire or recover; None where none does."""
    keys: tuple[str, ...]
    """The rules that fire or recover, in the order in which they were given."""


@dataclass(frozen=True, slots=True)
class Episode:
    """What would have been one incident, reopened or not."""

    started_at: datetime
    ended_at: datetime | None
    """None where it lasted beyond what was replayed."""
    severity: Severity
    """The highest that it had."""
    paged_at: datetime | None
    """When it first was a page."""
    keys: tuple[str, ...]
    """The rules that fired, in the order in which they did."""


def replay_together(
    rules: Mapping[str, Rule], minutes: Minutes, *, since: datetime | None = None
) -> list[Standing]:
    """Every change of what these rules of one target say together."""
    return together({key: replay(rule, minutes, since=since) for key, rule in rules.items()})


def together(transitions: Mapping[str, Iterable[Transition]]) -> list[Standing]:
    """Every change of what rules say together, from the transitions of each by its key."""
    changes = sorted(
        ((one.at, key, one) for key, several in transitions.items() for one in several), key=lambda c: c[0]
    )
    active: dict[str, Severity | None] = dict.fromkeys(transitions)
    standings: list[Standing] = []
    for n, (at, key, one) in enumerate(changes):
        active[key] = one.decision.severity if one.decision.is_active else None
        if n + 1 < len(changes) and changes[n + 1][0] == at:
            continue
        severities = set(active.values())
        severity = next((one for one in (Severity.PAGE, Severity.TICKET) if one in severities), None)
        keys = tuple(name for name, its_severity in active.items() if its_severity is not None)
        before = standings[-1] if standings else None
        if (severity, keys) != ((before.severity, before.keys) if before else (None, ())):
            standings.append(Standing(at, severity, keys))
    return standings


def severity_at(standings: Iterable[Standing], at: datetime) -> Severity | None:
    """The severity at an instant: what incidents of it have then."""
    severity = None
    for one in standings:
        if one.at > at:
            break
        severity = one.severity
    return severity


def episodes(standings: Iterable[Standing], *, reopens_within: timedelta = REOPENS_WITHIN) -> list[Episode]:
    """What would have been incidents. One that fires again within `reopens_within` of its end is the same."""
    found: list[Episode] = []
    is_open = False
    for one in standings:
        if one.severity is None:
            last = found[-1]
            found[-1] = Episode(last.started_at, one.at, last.severity, last.paged_at, last.keys)
            is_open = False
            continue
        last_end = found[-1].ended_at if found else None
        is_reopened = last_end is not None and one.at - last_end <= reopens_within
        if not is_open and not is_reopened:
            found.append(Episode(one.at, None, one.severity, None, ()))
        is_open = True
        last = found[-1]
        is_page = Severity.PAGE in (last.severity, one.severity)
        found[-1] = Episode(
            last.started_at,
            None,
            Severity.PAGE if is_page else Severity.TICKET,
            last.paged_at or (one.at if one.severity == Severity.PAGE else None),
            tuple(dict.fromkeys((*last.keys, *one.keys))),
        )
    return found
