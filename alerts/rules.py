"""Whether an alert rule fires, and why, from what was observed and what was decided before.

`decide` is two steps. A rule judges what was observed and finds whether its condition holds; then one
state machine for all rules moves inactive → pending → firing → recovering → inactive. Nothing is remembered
here: what one decision leaves behind, its `remembered()`, is the `previous` of the next.

Here are the rules that everybody has by default. Another kind is a dataclass with a judge: those of error
budgets are in alerts.error_budget_rules, of percentiles in alerts.latency_rules, of single series in
alerts.series_rules.

Source of the burn-rate rules: The Site Reliability Workbook, chapter 5, "Alerting on SLOs".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, Final

from scipy.special import bdtrc

from budgets.burn_rates import (
    BURN_RATE_WINDOWS,
    Objective,
    Severity,
    Tier,
    burn_rate,
    error_budget_ratio,
    tiers_for,
)

DEFAULT_KEEP_FIRING_FOR: Final = timedelta(minutes=5)
"""A condition that has been false for this long is over; a shorter dip is the same trouble."""

MIN_BAD_FOR_PAGE: Final = 3
"""Fewer bad events in the long window wake nobody: at 20 requests/h and 99.9 %, one failure burns 50×."""

OUTAGE: Final = "outage"
"""The outage rule's name among the tiers of its milestone."""

OUTAGE_WINDOW: Final = "5m"
OUTAGE_MIN_BAD: Final = 10

OVERRUN_WINDOW: Final = "5m"
OVERRUN_MIN_MEASURED: Final = 20
OVERRUN_MIN_OVER: Final = 3
OVERRUN_MAX_CHANCE: Final = 1e-4
"""An overrun that a component on target would show more often than this is chance. Asked every few seconds,
a laxer bound floods: without any, a component at half its allowed share opens 7 to 14 tickets a day."""

FRESH_WINDOW: Final = "1h"
"""A tier whose short window reaches further back starts only while this one burns as well: late data opens
no incident about a time that is past."""


class Status(StrEnum):
    """Where a rule stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    """The condition holds, not yet for as long as `for_` asks."""
    FIRING = "firing"
    RECOVERING = "recovering"
    """The condition no longer holds, not yet for as long as `keep_firing_for` asks."""


class Reason(StrEnum):
    """Why a decision is what it is."""

    BURNING = "burning"
    """Both windows burn faster than the tier's factor."""
    BURNING_FEW_BAD = "burning_few_bad"
    """Both windows burn, over too few bad events for a page: a ticket."""
    LONG_WINDOW_SLOW = "long_window_slow"
    SHORT_WINDOW_SLOW = "short_window_slow"
    """The long window still burns faster than the factor, the short one does not: it is over."""

    OUTAGE = "outage"
    """Over half is bad, over five minutes and over the last full one."""
    NO_OUTAGE = "no_outage"
    """At least half was good over five minutes."""
    OUTAGE_OVER = "outage_over"
    """At least half was good over the last full minute."""
    OUTAGE_FEW_BAD = "outage_few_bad"
    """Over half is bad, of too few to call it an outage."""

    OVERRUN = "overrun"
    """More measurements exceed the allocation than chance explains."""
    WITHIN_OBJECTIVE = "within_objective"
    """The share over the allocation is one that the objective allows."""
    FEW_MEASURED = "few_measured"
    FEW_OVER = "few_over"
    CHANCE = "chance"
    """More exceed the allocation than the objective allows, but a component on target may show that."""

    BUDGET_LOW = "budget_low"
    """Less of the error budget is left than the threshold."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """Nothing of the error budget is left."""
    BUDGET_LEFT = "budget_left"
    """As much of the error budget is left as the threshold asks, or more."""
    BUDGET_FEW_BAD = "budget_few_bad"
    """The error budget is so small that one or two bad events are more than the threshold leaves."""

    EXHAUSTS_SOON = "exhausts_soon"
    """The error budget is gone within the horizon, also where luck explains as much of the burn as it can."""
    MAY_EXHAUST_SOON = "may_exhaust_soon"
    """It would be gone within the horizon at the present burn, which chance may have raised."""
    LASTS = "lasts"
    """At the present burn the error budget outlasts the horizon."""

    ABOVE_THRESHOLD = "above_threshold"
    """The percentile is over the threshold, or falls among timeouts."""
    BELOW_THRESHOLD = "below_threshold"

    SLOWER = "slower"
    """Against the day before, hour by hour, the percentile has grown, and not by chance."""
    NOT_SLOWER = "not_slower"
    SLOWER_BY_CHANCE = "slower_by_chance"
    """It has grown, by differences that change sign too often."""
    SLOWER_NO_MORE = "slower_no_more"
    """It has grown, not over the latest hours."""
    SLOWER_SINCE_LATELY = "slower_since_lately"
    """It has grown over the latest hours, not yet over most of the day."""
    FEW_PAIRS = "few_pairs"
    """Too few hours have enough measurements to be compared with the day before."""

    TIMEOUTS = "timeouts"
    """More measurements time out than the rule allows."""
    FEW_TIMEOUTS = "few_timeouts"
    WITHIN_SHARE = "within_share"

    SILENT = "silent"
    """Nothing is measured any more of what reported steadily."""
    REPORTING = "reporting"
    NEVER_STEADY = "never_steady"
    """It is silent, and had not reported steadily for an hour before."""

    BACKLOG = "backlog"
    """It is silent, and what was accepted of that time is not rolled up yet."""

    UNALLOCATED = "unallocated"
    """A component without an allocation takes more of the time than the rule allows."""

    STALE = "stale"
    """The windows burn, the last hour by itself does not: it keeps a rule firing but starts none."""
    NO_DATA = "no_data"
    """A window holds nothing that was judged: the rule neither fires nor resolves."""
    NO_DATA_TIMEOUT = "no_data_timeout"
    """Resolved after a long window's length without data: silent, not recovered."""


# What goes in


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """The exact counters of a milestone or component over one window."""

    judged: int = 0
    good: int = 0
    over: int = 0
    total: int = 0
    errors: int = 0
    timeouts: int = 0

    @property
    def bad(self) -> int:
        return self.judged - self.good


NOTHING: Final = WindowCounts()


@dataclass(frozen=True, slots=True)
class Observation:
    """What a rule's target did, by the name of the window: all of BURN_RATE_WINDOWS for a milestone, 5m for a
    component. `last_minute` is the last one that was over."""

    windows: Mapping[str, WindowCounts]
    last_minute: WindowCounts = NOTHING


@dataclass(frozen=True, slots=True)
class Previous:
    """What the decision before left behind. A rule that was never decided is inactive since now."""

    status: Status
    since: datetime
    severity: Severity | None = None
    no_data_since: datetime | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The numbers of that decision: a judge that asks how far a condition has gone finds it there."""


# What a rule finds


class Verdict(Enum):
    """What a judge finds about its rule's condition."""

    HOLDS = "holds"
    STALE = "stale"
    """It holds, by nothing recent: keeps a rule firing, starts none."""
    BETWEEN = "between"
    """Neither bad enough to fire nor good enough to clear: the status stays, a recovery begins anew."""
    CLEAR = "clear"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Finding:
    """A judge's answer. `severity` is what firing on it would have."""

    verdict: Verdict
    reason: Reason
    evidence: dict[str, Any]
    burn_rate: float | None = None
    severity: Severity | None = None


# The rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(ABC):
    """What every rule has: how long its condition must hold to fire, and be over to resolve."""

    for_: timedelta = timedelta(0)
    keep_firing_for: timedelta = DEFAULT_KEEP_FIRING_FOR
    severity: Severity | None = None
    """What firing has in place of what the rule itself would say; None: what it says."""

    @property
    @abstractmethod
    def long_window(self) -> timedelta:
        """How long the rule may stay frozen without data."""

    @property
    def windows(self) -> tuple[str, ...]:
        """The windows that its judge reads, by name. The last full minute is always there."""
        return tuple(BURN_RATE_WINDOWS)

    @abstractmethod
    def judge(self, observation: Any, previous: Previous, now: datetime) -> Finding:
        """Whether the condition holds. What `observation` is depends on the rule: most take an Observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRateRule(Rule):
    """A milestone's error budget burns faster than a tier's factor over both of the tier's windows."""

    objective: Objective
    tier: Tier

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[self.tier.long]

    @property
    def windows(self) -> tuple[str, ...]:
        is_stale_possible = BURN_RATE_WINDOWS[self.tier.short] > BURN_RATE_WINDOWS[FRESH_WINDOW]
        return (self.tier.long, self.tier.short, *((FRESH_WINDOW,) if is_stale_possible else ()))

    def may_hold(self, short: WindowCounts) -> bool:
        """Whether its condition can hold at all, by what its short window counts."""
        rate = burn_rate(short.bad, short.judged, self.objective)
        return rate is not None and rate > self.tier.factor

    def judge(self, observation: Observation, previous: Previous, now: datetime) -> Finding:
        tier = self.tier
        long, short = observation.windows[tier.long], observation.windows[tier.short]
        long_bad, short_bad = long.bad, short.bad
        long_rate = burn_rate(long_bad, long.judged, self.objective)
        short_rate = burn_rate(short_bad, short.judged, self.objective)
        evidence = {
            "factor": tier.factor,
            "long": {"window": tier.long, "judged": long.judged, "bad": long_bad, "burn_rate": long_rate},
            "short": {
                "window": tier.short,
                "judged": short.judged,
                "bad": short_bad,
                "burn_rate": short_rate,
            },
        }
        if long_rate is None or short_rate is None:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence, long_rate)
        if not long_rate > tier.factor:
            return Finding(Verdict.CLEAR, Reason.LONG_WINDOW_SLOW, evidence, long_rate)
        if not short_rate > tier.factor:
            return Finding(Verdict.CLEAR, Reason.SHORT_WINDOW_SLOW, evidence, long_rate)

        severity, reason = self.severity or tier.severity, Reason.BURNING
        if severity == Severity.PAGE and long_bad < MIN_BAD_FOR_PAGE:
            severity, reason = Severity.TICKET, Reason.BURNING_FEW_BAD
        if BURN_RATE_WINDOWS[tier.short] > BURN_RATE_WINDOWS[FRESH_WINDOW]:
            fresh = observation.windows[FRESH_WINDOW]
            fresh_bad = fresh.bad
            fresh_rate = burn_rate(fresh_bad, fresh.judged, self.objective)
            evidence["fresh"] = {
                "window": FRESH_WINDOW,
                "judged": fresh.judged,
                "bad": fresh_bad,
                "burn_rate": fresh_rate,
            }
            if fresh_rate is None or not fresh_rate > tier.factor:
                return Finding(Verdict.STALE, Reason.STALE, evidence, long_rate, severity)
        return Finding(Verdict.HOLDS, reason, evidence, long_rate, severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageRule(Rule):
    """Over half of a milestone's requests are bad.

    Seen within minutes, where the hour of the first tier takes 40 minutes to see it at 95 %.
    """

    objective: Objective

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[OUTAGE_WINDOW]

    @property
    def windows(self) -> tuple[str, ...]:
        return (OUTAGE_WINDOW,)

    def judge(self, observation: Observation, previous: Previous, now: datetime) -> Finding:
        window, last_minute = observation.windows[OUTAGE_WINDOW], observation.last_minute
        window_bad, last_minute_bad = window.bad, last_minute.bad
        rate = burn_rate(window_bad, window.judged, self.objective)
        evidence = {
            "min_bad": OUTAGE_MIN_BAD,
            "long": {"window": OUTAGE_WINDOW, "judged": window.judged, "bad": window_bad, "burn_rate": rate},
            "last_minute": {"judged": last_minute.judged, "bad": last_minute_bad},
        }
        if not window.judged or not last_minute.judged:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence, rate)
        if not 2 * window_bad > window.judged:
            return Finding(Verdict.CLEAR, Reason.NO_OUTAGE, evidence, rate)
        if not 2 * last_minute_bad > last_minute.judged:
            return Finding(Verdict.CLEAR, Reason.OUTAGE_OVER, evidence, rate)
        if window_bad < OUTAGE_MIN_BAD:
            return Finding(Verdict.CLEAR, Reason.OUTAGE_FEW_BAD, evidence, rate)
        return Finding(Verdict.HOLDS, Reason.OUTAGE, evidence, rate, self.severity or Severity.PAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentOverrunRule(Rule):
    """A component exceeds its allocation more often than the objective allows, and not by chance."""

    objective: Objective

    @property
    def long_window(self) -> timedelta:
        return BURN_RATE_WINDOWS[OVERRUN_WINDOW]

    @property
    def windows(self) -> tuple[str, ...]:
        return (OVERRUN_WINDOW,)

    def judge(self, observation: Observation, previous: Previous, now: datetime) -> Finding:
        window = observation.windows[OVERRUN_WINDOW]
        allowed_ratio = error_budget_ratio(self.objective)
        # The share as a multiple of what is allowed: a burn rate in all but name, and rounded as exactly.
        multiple = burn_rate(window.over, window.judged, self.objective)
        evidence: dict[str, Any] = {
            "window": OVERRUN_WINDOW,
            "judged": window.judged,
            "over": window.over,
            "over_ratio": window.over / window.judged if window.judged else None,
            "allowed_ratio": allowed_ratio,
        }
        if multiple is None:
            return Finding(Verdict.NO_DATA, Reason.NO_DATA, evidence)
        if multiple <= 1:
            return Finding(Verdict.CLEAR, Reason.WITHIN_OBJECTIVE, evidence)
        if window.judged < OVERRUN_MIN_MEASURED:
            return Finding(Verdict.BETWEEN, Reason.FEW_MEASURED, evidence)
        if window.over < OVERRUN_MIN_OVER:
            return Finding(Verdict.BETWEEN, Reason.FEW_OVER, evidence)
        # P(X ≥ over) for X binomial: bdtrc(k, n, p) is P(X > k).
        evidence["chance"] = chance = float(bdtrc(window.over - 1, window.judged, allowed_ratio))
        if not chance < OVERRUN_MAX_CHANCE:
            return Finding(Verdict.BETWEEN, Reason.CHANCE, evidence)
        return Finding(Verdict.HOLDS, Reason.OVERRUN, evidence, severity=self.severity or Severity.TICKET)


def milestone_rules(
    objective: Objective,
    window_days: int,
    *,
    for_: timedelta = timedelta(0),
    keep_firing_for: timedelta = DEFAULT_KEEP_FIRING_FOR,
    severity: Severity | None = None,
) -> dict[str, BurnRateRule | OutageRule]:
    """The rules that watch a milestone, by the key of their state: the tiers' names and "outage".

    >>> list(milestone_rules(0.99, 28))
    ['1h/5m', '6h/30m', '1d/2h', '3d/6h', 'outage']
    """
    rules: dict[str, BurnRateRule | OutageRule] = {
        tier.name: BurnRateRule(
            objective=objective, tier=tier, for_=for_, keep_firing_for=keep_firing_for, severity=severity
        )
        for tier in tiers_for(objective, window_days)
    }
    rules[OUTAGE] = OutageRule(
        objective=objective, for_=for_, keep_firing_for=keep_firing_for, severity=severity
    )
    return rules


# What comes out


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a rule stands now, and why."""

    status: Status
    since: datetime
    """When it entered the status; while pending and recovering, moved on by the time it was frozen. A
    recovery begins anew wherever the condition was not clear."""
    reason: Reason
    severity: Severity | None
    """The highest since it fired; None while inactive."""
    burn_rate: float | None
    """The long window's; None for rules that have none and where nothing was judged."""
    evidence: dict[str, Any]
    """The numbers that decided, ready for JSON."""
    no_data_since: datetime | None

    @property
    def is_active(self) -> bool:
        """It fires, or has not yet been over for long enough: what an incident stays open for."""
        return self.status in (Status.FIRING, Status.RECOVERING)

    def remembered(self) -> Previous:
        """What the next decision needs to know of this one."""
        return Previous(self.status, self.since, self.severity, self.no_data_since, self.evidence)


def decide(rule: Rule, observation: Any, previous: Previous, now: datetime) -> Decision:
    """Where `rule` stands at `now`, given what was observed up to then and the decision before.

    1. The rule's judge, which knows what `observation` is, finds whether its condition holds.
    2. Without data the rule freezes: its status and its clock stand still, at most for its long window.
    3. Else the status moves on, at most by one step.
    """
    finding = rule.judge(observation, previous, now)
    if finding.verdict is Verdict.NO_DATA:
        return _freeze(rule, finding, previous, now)

    since = previous.since
    if previous.status == Status.RECOVERING and finding.verdict is Verdict.BETWEEN:
        since = now
    elif previous.no_data_since is not None and previous.status in (Status.PENDING, Status.RECOVERING):
        since += now - previous.no_data_since
    status = _next_status(rule, finding.verdict, previous.status, now - since)
    return Decision(
        status=status,
        since=since if status == previous.status else now,
        reason=finding.reason,
        severity=_severity(finding, previous, status),
        burn_rate=finding.burn_rate,
        evidence=finding.evidence,
        no_data_since=None,
    )


# The state machine


def _freeze(rule: Rule, finding: Finding, previous: Previous, now: datetime) -> Decision:
    status, since, reason, severity = previous.status, previous.since, finding.reason, previous.severity
    no_data_since = None
    if status != Status.INACTIVE:
        no_data_since = previous.no_data_since or now
        if now - no_data_since >= rule.long_window:
            status, since, reason, severity = Status.INACTIVE, now, Reason.NO_DATA_TIMEOUT, None
            no_data_since = None
    return Decision(status, since, reason, severity, finding.burn_rate, finding.evidence, no_data_since)


def _next_status(rule: Rule, verdict: Verdict, status: Status, elapsed: timedelta) -> Status:
    if verdict is Verdict.BETWEEN or (verdict is Verdict.STALE and status == Status.FIRING):
        return status
    holds = verdict is Verdict.HOLDS
    match status:
        case Status.INACTIVE if holds:
            return Status.PENDING if rule.for_ else Status.FIRING
        case Status.PENDING if holds:
            return Status.FIRING if elapsed >= rule.for_ else Status.PENDING
        case Status.FIRING if not holds:
            return Status.RECOVERING if rule.keep_firing_for else Status.INACTIVE
        case Status.RECOVERING if not holds:
            return Status.INACTIVE if elapsed >= rule.keep_firing_for else Status.RECOVERING
    return Status.FIRING if holds else Status.INACTIVE


def _severity(finding: Finding, previous: Previous, status: Status) -> Severity | None:
    """A firing rule never grows milder: a page whose bad events age out of the window was a page."""
    if status == Status.INACTIVE:
        return None
    was_firing = previous.status in (Status.FIRING, Status.RECOVERING)
    if finding.severity is None or (was_firing and previous.severity == Severity.PAGE):
        return previous.severity
    return finding.severity
