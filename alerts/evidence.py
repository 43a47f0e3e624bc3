"""What decided a condition, in words: the numbers of its evidence, and the named reason.

Evidence is what alerts.rules and the modules of the other kinds keep of a decision; each kind is known by the
numbers that only it has. Plain text, for pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from budgets import formats
from budgets.histogram import AtLeast

from .clauses import plain, window_words

Evidence = Mapping[str, Any]

REASONS: Final[Mapping[str, str]] = {
    "burning": "both windows burn faster than the limit",
    "burning_few_bad": "both windows burn, by too few bad events for a page",
    "long_window_slow": "the long window is slower than the limit",
    "short_window_slow": "the short window is slower than the limit: it is over",
    "outage": "over half is bad, over five minutes and over the last full one",
    "no_outage": "at least half was good over five minutes",
    "outage_over": "at least half was good over the last full minute",
    "outage_few_bad": "over half is bad, of too few to call it an outage",
    "overrun": "more exceed the allocation than chance explains",
    "within_objective": "what exceeds the allocation is what the objective allows",
    "few_measured": "too little was measured to tell",
    "few_over": "too few exceed the allocation to tell",
    "chance": "chance may explain what exceeds the allocation",
    "budget_low": "less of the error budget is left than the threshold",
    "budget_exhausted": "nothing of the error budget is left",
    "budget_left": "enough of the error budget is left",
    "budget_few_bad": "one or two bad events are more than this error budget holds",
    "exhausts_soon": "the error budget will be gone within the horizon",
    "may_exhaust_soon": "the error budget may be gone within the horizon; chance may explain it",
    "lasts": "the error budget outlasts the horizon",
    "above_threshold": "the percentile is over the threshold",
    "below_threshold": "the percentile is not over the threshold",
    "slower": "hour by hour it is slower than the day before, and not by chance",
    "not_slower": "it is not slower than the day before",
    "slower_by_chance": "it is slower than the day before; chance may explain it",
    "slower_no_more": "over the latest hours it is not slower any more",
    "slower_since_lately": "it is slower over the latest hours, not over most of the day",
    "few_pairs": "too few hours can be compared with the day before",
    "timeouts": "more time out than the rule allows",
    "few_timeouts": "too few time out to tell",
    "within_share": "the share is within what the rule allows",
    "silent": "nothing is measured any more",
    "reporting": "measurements arrive",
    "never_steady": "it is silent, and had not reported steadily for an hour before",
    "backlog": "nothing is measured, but what was sent meanwhile still waits for its roll-up",
    "unallocated": "without an allocation it takes more of the time than the rule allows",
    "stale": "its windows burn, by nothing of the last hour",
    "no_data": "its windows hold no data: it neither fires nor resolves",
    "no_data_timeout": "silent, not recovered",
    "feature_archived": "the feature was archived",
    "milestone_retired": "the milestone has no latency budget any more",
    "allocation_removed": "the component has no allocation",
    "component_allocated": "the component was given an allocation",
    "rule_disabled": "the rule is disabled",
    "rule_removed": "there is nothing that it watches any more",
}
"""Each named reason of a decision, and each for which a condition is watched no longer, as a clause."""


def reason_words(reason: str) -> str:
    """The reason as a clause. One of another version of the product stands as it is."""
    return REASONS.get(reason, reason.replace("_", " "))


def evidence_words(evidence: Evidence) -> str:
    """ "1 h: 40 of 60 bad, burning 66.7×, limit 14.4×; 5 min: …". Empty where it is of no known kind.

    >>> evidence_words({"window": "5m", "total": 300, "timeouts": 12, "share_ratio": 0.04, "allowed_ratio": 0.01})
    '5 min: 12 of 300 timed out, 4.00 %, allowed 1 %'
    """
    for mark, told in _TOLD.items():
        if mark in evidence:
            return plain(told(evidence))
    return ""


def condition_words(key: str, kind: str = "") -> str:
    """A condition's key as a person reads it: "1h/5m" → "1 h and 5 min".

    >>> condition_words("1h/5m", "burn_rate"), condition_words("25", "error_budget"), condition_words("tools")
    ('1 h and 5 min', 'below 25 % left', 'tools')
    """
    if kind == "burn_rate" and "/" in key:
        long, short = key.split("/", 1)
        return f"{window_words(long)} and {window_words(short)}"
    if kind == "error_budget":
        return "exhausted" if key == "0" else f"below {key} % left"
    if kind == "forecast":
        return f"gone within {window_words(key)}"
    if kind == "trend":
        return f"the last {window_words(key)}"
    if key.startswith("milestone:"):
        return key.removeprefix("milestone:").replace("_", " ")
    return key


def _counted(window: Evidence) -> str:
    rate = window["burn_rate"]
    if rate is None:
        return f"{window_words(window['window'])}: no data"
    return f"{window_words(window['window'])}: {_of(window['bad'], window['judged'])} bad, burning {formats.burn_rate(rate)}"


def _of(number: int, total: int) -> str:
    return f"{formats.count(number)} of {formats.count(total)}"


def _burn_rate(evidence: Evidence) -> str:
    limit = f"limit {formats.burn_rate(evidence['factor'])}"
    windows = [evidence[name] for name in ("long", "short", "fresh") if name in evidence]
    return "; ".join(f"{_counted(one)}, {limit}" for one in windows)


def _outage(evidence: Evidence) -> str:
    last = evidence["last_minute"]
    return (
        f"{_counted(evidence['long'])}, at least {evidence['min_bad']} bad; last full minute: "
        f"{_of(last['bad'], last['judged'])} bad; limit half"
    )


def _overrun(evidence: Evidence) -> str:
    window = window_words(evidence["window"])
    if evidence["over_ratio"] is None:
        return f"{window}: no data"
    chance = evidence.get("chance")
    by_chance = "" if chance is None else f", by chance {_odds(chance)}"
    return (
        f"{window}: {_of(evidence['over'], evidence['judged'])} over the allocation, {formats.percent(evidence['over_ratio'])}, "
        f"allowed {formats.objective(evidence['allowed_ratio'])}{by_chance}"
    )


def _odds(chance: float) -> str:
    """One in so many, which is easier to grasp than 1e-12."""
    if chance < 1e-9:
        return "less than once in 1,000,000,000"
    return f"once in {formats.count(round(1 / chance))}"


def _timeouts(evidence: Evidence) -> str:
    window = window_words(evidence["window"])
    if evidence["share_ratio"] is None:
        return f"{window}: no data"
    return (
        f"{window}: {_of(evidence['timeouts'], evidence['total'])} timed out, {formats.percent(evidence['share_ratio'])}, "
        f"allowed {formats.objective(evidence['allowed_ratio'])}"
    )


def _error_budget(evidence: Evidence) -> str:
    left = evidence["remaining_ratio"]
    if left is None:
        return "no data"
    return (
        f"{formats.percent(left)} of the error budget left, limit {formats.objective(evidence['threshold_ratio'])}: "
        f"{_of(evidence['bad'], evidence['judged'])} bad"
    )


def _forecast(evidence: Evidence) -> str:
    if evidence["remaining_ratio"] is None or evidence["burn_rate"] is None:
        return "no data"
    likely = evidence.get("likely_hours")
    lasts = f"gone in {likely} h" if likely else f"lasts beyond {evidence['horizon_hours']} h"
    return (
        f"{window_words(evidence['window'])}: {_of(evidence['bad'], evidence['judged'])} bad, burning "
        f"{formats.burn_rate(evidence['burn_rate'])}; {formats.percent(evidence['remaining_ratio'])} of the error budget "
        f"left, {lasts}"
    )


def _threshold(evidence: Evidence) -> str:
    ms, limit_ms = evidence["percentile_ms"], evidence["threshold_ms"]
    if ms is None:
        return f"{window_words(evidence['window'])}: no data"
    measured = formats.duration(AtLeast(ms) if evidence["is_at_least"] else ms, near=limit_ms)
    return (
        f"{window_words(evidence['window'])}: {evidence['percentile']} {measured} of {formats.count(evidence['measured'])} "
        f"measured, limit {formats.limit(limit_ms)}"
    )


def _trend(evidence: Evidence) -> str:
    pairs = f"{evidence['pairs']} hours compared"
    if "day_ratio" not in evidence:
        return f"{pairs}, {evidence['late_pairs']} of the last 6"
    return (
        f"{evidence['percentile']} {_grown(evidence['day_ratio'])} over the day, {_grown(evidence['late_ratio'])} over the last "
        f"6 h, limit {_grown(evidence['growth_ratio'])}; {pairs}"
    )


def _grown(ratio: float) -> str:
    percent = round((ratio - 1) * 100)
    return f"{'+' if percent > 0 else '−' if percent < 0 else ''}{abs(percent)} %"


def _no_data(evidence: Evidence) -> str:
    at = evidence["last_measured_at"]
    limit = f"limit {evidence['silent_minutes']} min without a measurement"
    until = evidence.get("backlog_until")
    waits = (
        f"; what was sent up to {formats.instant(datetime.fromisoformat(until))} waits for its roll-up"
        if until
        else ""
    )
    if at is None:
        return f"nothing measured for over a day{waits}; {limit}"
    return f"last measured {formats.instant(datetime.fromisoformat(at))}{waits}; {limit}"


def _unallocated(evidence: Evidence) -> str:
    window = window_words(evidence["window"])
    if evidence["share_ratio"] is None:
        return f"{window}: no data"
    return (
        f"{window}: {formats.percent(evidence['share_ratio'])} of the time to {evidence['milestone'].replace('_', ' ')}, "
        f"allowed {formats.objective(evidence['allowed_ratio'])}"
    )


_TOLD: Final[Mapping[str, Callable[[Evidence], str]]] = {
    "factor": _burn_rate,
    "last_minute": _outage,
    "over": _overrun,
    "timeouts": _timeouts,
    "threshold_ratio": _error_budget,
    "horizon_hours": _forecast,
    "threshold_ms": _threshold,
    "growth_ratio": _trend,
    "silent_minutes": _no_data,
    "component_ms": _unallocated,
}
"""By what only that kind of evidence has."""
