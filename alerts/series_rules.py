"""Rules that watch single series: whether they time out, fall silent, or take time that nobody allocated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from budgets.burn_rates import BURN_RATE_WINDOWS, Severity

from .rules import Finding, Observation, Previous, Reason, Rule, Status, Verdict

TIMEOUTS_WINDOW: Final = "5m"
DEFAULT_TIMEOUT_RATIO: Final = 0.01
MIN_TIMEOUTS: Final = 3

DEFAULT_SILENT_MINUTES: Final = 15
STEADY_FOR: Final = timedelta(hours=1)
GIVES_UP_AFTER: Final = timedelta(days=1)
"""What has been silent for a day is not coming back by itself: the incident ends, worded as silence."""

UNALLOCATED_WINDOW: Final = "1h"
DEFAULT_UNALLOCATED_RATIO: Final = 0.05
UNALLOCATED_MIN_MEASURED: Final = 20
_UNALLOCATED_LEAVES_AT: Final = 0.8
"""A share that is about the limit would open and end an incident all day: it leaves at four fifths."""

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsRule(Rule):
    """More than `share_ratio` of a component's measurements of the last five minutes timed out, and at least three."""

    share_ratio: float = DEFAULT_TIMEOUT_RATIO
    min_timeouts: int = MIN_TIMEOUTS

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[TIMEOUTS_WINDOW]

    @property
    def windows(self) -> tuple[str, ...]:
        return (TIMEOUTS_WINDOW,)

    def judge(self, observation: Observation, previous: Previous, now: datetime) -> Finding:
        counts = observation.windows[TIMEOUTS_WINDOW]
        evidence: dict[str, Any] = {
            "window": TIMEOUTS_WINDOW,
            "total": counts.total,
            "timeouts": counts.timeouts,
            "share_ratio": counts.timeouts / counts.total if counts.total else None,
            "allowed_ratio": self.share_ratio,
        }
        if not counts.total:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        if not counts.timeouts > self.share_ratio * counts.total:
            return Finding(Verdict.CLEAR, Reason.WITHIN_SHARE, evidence)
        if counts.timeouts < self.min_timeouts:
            return Finding(Verdict.BETWEEN, Reason.FEW_TIMEOUTS, evidence)
        return Finding(Verdict.HOLDS, Reason.TIMEOUTS, evidence, severity=self.severity or Severity.TICKET)


@dataclass(frozen=True, slots=True)
class Heard:
    """When something was last measured of a series, and in which minutes before.

    Both are starts of minutes. `last_at` is None where nothing was within GIVES_UP_AFTER and the silence that is
    asked for; `minutes` are those of the silence that is asked for and STEADY_FOR up to it, and may be left
    out of what is not silent. `backlog_until` is up to when what was accepted lasts that is not rolled up yet.
    """

    last_at: datetime | None = None
    minutes: Collection[datetime] = ()
    backlog_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoDataRule(Rule):
    """A series that had reported for an hour has been silent for `silent_minutes`.

    It had reported for an hour where, up to its last measurement, no pause was as long as the silence that is
    asked for: what is measured a few times a day is not silent in between. Silence is this rule's finding, so it
    never freezes for want of data. After a day it gives up: what was switched off for good ends as silent.
    """

    silent_minutes: int = DEFAULT_SILENT_MINUTES

    @property
    def long_window(self) -> timedelta:
        return GIVES_UP_AFTER

    def judge(self, observation: Heard, previous: Previous, now: datetime) -> Finding:
        silent_for = timedelta(minutes=self.silent_minutes)
        last_at = observation.last_at
        evidence: dict[str, Any] = {
            "silent_minutes": self.silent_minutes,
            "last_measured_at": _instant(last_at),
        }
        # To the minute: one that had any measurement was not silent to its end.
        if last_at is not None and now - (last_at + _MINUTE) < silent_for:
            return Finding(Verdict.CLEAR, Reason.REPORTING, evidence)
        if observation.backlog_until is not None and now - observation.backlog_until < silent_for:
            evidence["backlog_until"] = _instant(observation.backlog_until)
            return Finding(Verdict.BETWEEN, Reason.BACKLOG, evidence)
        if last_at is None or now - last_at >= GIVES_UP_AFTER + silent_for:
            return Finding(Verdict.CLEAR, Reason.NO_DATA_TIMEOUT, evidence)
        if previous.status == Status.INACTIVE and not self._was_steady(observation, last_at):
            return Finding(Verdict.CLEAR, Reason.NEVER_STEADY, evidence)
        return Finding(Verdict.HOLDS, Reason.SILENT, evidence, severity=self.severity or Severity.TICKET)

    def _was_steady(self, heard: Heard, last_at: datetime) -> bool:
        """Whether measurements without such a pause, up to the last one, lasted for an hour."""
        began_at = last_at
        for at in sorted(heard.minutes, reverse=True):
            if began_at - (at + _MINUTE) >= timedelta(minutes=self.silent_minutes):
                break
            began_at = min(began_at, at)
        return last_at - began_at >= STEADY_FOR


@dataclass(frozen=True, slots=True)
class TimeShare:
    """How long the requests of the last hour took in a component, all together, and how long until the later
    milestone. Errors are left out, as of percentiles."""

    component_ms: float = 0.0
    measured: int = 0
    milestone_ms: float = 0.0
    milestone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnallocatedComponentRule(Rule):
    """A component that is measured and has no allocation takes more than `share_ratio` of the requests' time."""

    share_ratio: float = DEFAULT_UNALLOCATED_RATIO

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[UNALLOCATED_WINDOW]

    def judge(self, observation: TimeShare, previous: Previous, now: datetime) -> Finding:
        seen = observation
        share = seen.component_ms / seen.milestone_ms if seen.milestone_ms else None
        evidence: dict[str, Any] = {
            "window": UNALLOCATED_WINDOW,
            "milestone": seen.milestone,
            "component_ms": seen.component_ms,
            "milestone_ms": seen.milestone_ms,
            "measured": seen.measured,
            "share_ratio": share,
            "allowed_ratio": self.share_ratio,
        }
        if share is None:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        if share <= self.share_ratio:
            is_below = share <= self.share_ratio * _UNALLOCATED_LEAVES_AT
            return Finding(Verdict.CLEAR if is_below else Verdict.BETWEEN, Reason.WITHIN_SHARE, evidence)
        if seen.measured < UNALLOCATED_MIN_MEASURED:
            return Finding(Verdict.BETWEEN, Reason.FEW_MEASURED, evidence)
        return Finding(Verdict.HOLDS, Reason.UNALLOCATED, evidence, severity=self.severity or Severity.TICKET)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
