"""What a rule will do, told before it is saved: whether it can fire, and how soon at how much that is bad.

How soon is found by the decisions themselves: a replay of even traffic that turns bad (alerts.turns). Real traffic
is not even, so a slowdown may be seen sooner or later than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from budgets import formats
from budgets.burn_rates import FactorChange, Severity, max_burn_rate

from .clauses import plain
from .error_budget_rules import HORIZON_HOURS, ErrorBudgetRule, ForecastRule
from .latency_rules import TREND_PAIRS, TREND_PERCENTILE, ThresholdRule, TrendRule
from .replays import replay
from .rules import (
    MIN_BAD_FOR_PAGE,
    OUTAGE_MIN_BAD,
    OVERRUN_MIN_MEASURED,
    OVERRUN_MIN_OVER,
    BurnRateRule,
    ComponentOverrunRule,
    OutageRule,
    Rule,
)
from .series_rules import UNALLOCATED_MIN_MEASURED, NoDataRule, TimeoutsRule, UnallocatedComponentRule
from .turns import Turn, turns

_MINUTE: Final = timedelta(minutes=1)

_UNITS: Final = {"m": "minute", "h": "hour", "d": "day"}


@dataclass(frozen=True, slots=True)
class Reaction:
    """What comes of a turn (alerts.turns): when rules first fire, and when first as a page. None: never."""

    level: float
    words: str
    noticed_after: timedelta | None
    noticed_by: str | None
    paged_after: timedelta | None
    paged_by: str | None


@dataclass(frozen=True, slots=True)
class ConditionExplained:
    """One rule by itself."""

    key: str
    severity: Severity
    can_fire: bool
    """Whether anything could make it fire, whatever the traffic."""
    can_fire_at_this_traffic: bool
    """Whether it would if everything were bad."""
    factor: float | None
    table_factor: float | None
    """The factor before the highest possible burn rate lowered it, or 1 raised it."""
    highest_burn_rate: float | None
    """1 / (1 − objective): the burn rate when everything is bad."""
    was_changed: bool
    fires_after: Mapping[float, timedelta | None]
    """By how bad it is: the share that is bad, of a trend the growth."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What rules of one target will do together, in numbers and in sentences."""

    requests_per_hour: float
    conditions: tuple[ConditionExplained, ...]
    reactions: tuple[Reaction, ...]
    setting: str
    """At what the reactions are told: "At an even 300 requests/h". A sentence of its own where there are none."""
    told: tuple[str, ...]
    """The reactions in words: "2 % bad: nothing fires"."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it."""
        together = f"{self.setting}: {'; '.join(self.told)}." if self.told else self.setting
        return (*(one.sentence for one in self.conditions), *([together] if self.conditions else []))


def explain(rules: Mapping[str, Rule], *, requests_per_hour: float) -> Explanation:
    """Explains the rules of one kind and target, by their keys, at so much traffic."""
    turned = turns(rules, requests_per_hour)
    fired = {
        (key, turn.level): _firings(rule, turn) if requests_per_hour else []
        for turn in turned
        for key, rule in rules.items()
    }
    conditions = tuple(
        _condition(key, rule, [turn.level for turn in turned], fired, requests_per_hour)
        for key, rule in rules.items()
    )
    reactions = tuple(_reaction(turn, tuple(rules), fired) for turn in turned)
    if not requests_per_hour:
        setting = "Nothing was measured in the last days, so how soon it would fire cannot be told."
        return Explanation(requests_per_hour, conditions, reactions, setting, ())
    of_budgets = any(isinstance(rule, ErrorBudgetRule | ForecastRule) for rule in rules.values())
    since = " and with a full error budget" if of_budgets else ""
    setting = f"At an even {_traffic(requests_per_hour)}{since}"
    return Explanation(requests_per_hour, conditions, reactions, setting, tuple(map(_told, reactions)))


def _firings(rule: Rule, turn: Turn) -> list[tuple[timedelta, Severity]]:
    """After how long it first fires, and first as a page."""
    found: list[tuple[timedelta, Severity]] = []
    for one in replay(rule, turn.minutes, since=turn.began):
        severity = one.decision.severity
        if one.decision.is_active and severity is not None and (not found or severity == Severity.PAGE):
            found.append((one.at - turn.began, severity))
            if severity == Severity.PAGE:
                break
    return found


def _condition(
    key: str,
    rule: Rule,
    levels: list[float],
    fired: Mapping[tuple[str, float], list[tuple[timedelta, Severity]]],
    requests_per_hour: float,
) -> ConditionExplained:
    fires_after = {level: fired[key, level][0][0] if fired[key, level] else None for level in levels}
    factor = table_factor = highest = None
    was_changed, can_fire = False, True
    severity = rule.severity or Severity.TICKET
    match rule:
        case BurnRateRule(objective=objective, tier=tier):
            severity = rule.severity or tier.severity
            factor, table_factor, highest = tier.factor, tier.table_factor, max_burn_rate(objective)
            was_changed, can_fire = tier.change is not None, factor < highest
        case OutageRule() | ErrorBudgetRule(remaining_percent=0):
            severity = rule.severity or Severity.PAGE
    is_seen = any(after is not None for after in fires_after.values())
    said = [_what(rule, severity)]
    if isinstance(rule, BurnRateRule):
        if rule.tier.change_note:
            said.append(f"The factor was {rule.tier.change_note}.")
        if not can_fire:
            said.append(f"It can never fire: nothing burns faster than {highest:.4g}.")
        elif rule.tier.change == FactorChange.LOWERED:
            share = rule.tier.factor / max_burn_rate(rule.objective)
            said.append(f"It fires when more than {share * 100:.3g} % is bad.")
    if can_fire and not is_seen and requests_per_hour:
        said.append(f"At an even {_traffic(requests_per_hour)} too little comes in for it to fire.")
    return ConditionExplained(
        key=key,
        severity=severity,
        can_fire=can_fire,
        can_fire_at_this_traffic=is_seen,
        factor=factor,
        table_factor=table_factor,
        highest_burn_rate=highest,
        was_changed=was_changed,
        fires_after=fires_after,
        sentence=" ".join(said),
    )


def _what(rule: Rule, severity: Severity) -> str:
    """What it fires on, in a sentence that begins with the condition."""
    a = f"a {severity}"
    match rule:
        case BurnRateRule(tier=tier):
            few = (
                f" With fewer than {MIN_BAD_FOR_PAGE} bad in {_long(tier.long)} it is a ticket."
                if severity == Severity.PAGE
                else ""
            )
            return (
                f"Over {_long(tier.long)} and over {_long(tier.short)}: {a} when both burn the error budget faster than "
                f"{_times(tier.factor)}.{few}"
            )
        case OutageRule():
            said = f"when over half is bad in 5 minutes and in the last full one, at least {OUTAGE_MIN_BAD}."
            return f"Outage: {a} {said}"
        case ComponentOverrunRule():
            said = (
                f"when, of at least {OVERRUN_MIN_MEASURED} in 5 minutes, at least {OVERRUN_MIN_OVER} exceed the allocation, "
                "and more than chance explains."
            )
        case TimeoutsRule(share_ratio=share_ratio, min_timeouts=least):
            said = f"when more than {share_ratio * 100:g} % time out in 5 minutes, at least {least}."
        case ErrorBudgetRule(remaining_percent=percent, window_days=days):
            left = f"less than {percent} %" if percent else "nothing"
            begun = f"Below {percent} %" if percent else "Exhausted"
            return f"{begun}: {a} when {left} of the error budget of {days} days is left."
        case ForecastRule(window_days=days):
            said = (
                f"when the error budget of {days} days will be gone within {HORIZON_HOURS} hours, also if chance had made "
                "the last 6 hours look worse than they are."
            )
        case ThresholdRule(percentile=percentile, threshold_ms=ms, window=window, min_measured=least):
            said = f"when the {percentile} over {_long(window)} is over {formats.limit(ms)}, of at least {least} measured."
        case TrendRule(growth_ratio=ratio):
            said = (
                f"when the {TREND_PERCENTILE} is {(ratio - 1) * 100:.3g} % above the same hours of the day before, over "
                f"{TREND_PAIRS} hours and over the last 6, and chance does not explain it."
            )
        case NoDataRule(silent_minutes=minutes):
            said = f"when nothing is measured for {minutes} minutes of what had reported for an hour without such a pause."
        case UnallocatedComponentRule(share_ratio=share_ratio):
            said = (
                f"when it takes more than {share_ratio * 100:g} % of the requests' time over an hour, of at least "
                f"{UNALLOCATED_MIN_MEASURED} measured."
            )
        case _:
            raise TypeError(f"{type(rule).__name__} is not explained")
    return plain(f"A {severity} {said}")


def _times(factor: float) -> str:
    return "the objective allows" if factor == 1 else f"{factor:.4g} times"


def _long(window: str) -> str:
    """A window's name in full.

    >>> _long("5m"), _long("1h"), _long("3d")
    ('5 minutes', '1 hour', '3 days')
    """
    amount, unit = window[:-1], _UNITS[window[-1]]
    return f"{amount} {unit}{'' if amount == '1' else 's'}"


def _reaction(
    turn: Turn,
    keys: tuple[str, ...],
    fired: Mapping[tuple[str, float], list[tuple[timedelta, Severity]]],
) -> Reaction:
    every = sorted(
        (after, keys.index(key), severity) for key in keys for after, severity in fired[key, turn.level]
    )
    noticed = every[0] if every else None
    paged = next((one for one in every if one[2] == Severity.PAGE), None)
    return Reaction(
        turn.level,
        turn.words,
        noticed[0] if noticed else None,
        keys[noticed[1]] if noticed else None,
        paged[0] if paged else None,
        keys[paged[1]] if paged else None,
    )


def _told(reaction: Reaction) -> str:
    bad = reaction.words
    if reaction.noticed_after is None:
        return f"{bad}: nothing fires"
    if reaction.paged_after is None:
        return f"{bad}: a ticket after about {_for_people(reaction.noticed_after)}"
    page = f"{bad}: a page after about {_for_people(reaction.paged_after)}"
    if reaction.noticed_after + _MINUTE < reaction.paged_after:
        return f"{page}, a ticket after {_for_people(reaction.noticed_after)}"
    return page


def _traffic(requests_per_hour: float) -> str:
    number = f"{requests_per_hour:,.0f}" if requests_per_hour >= 10 else f"{requests_per_hour:.2g}"
    return f"{number.replace(',', ' ')} requests/h"


def _for_people(duration: timedelta) -> str:
    """To the minute below two hours, to the hour below two days, to the day above.

    >>> _for_people(timedelta(minutes=2, seconds=59)), _for_people(timedelta(hours=14, minutes=20))
    ('3 min', '14 h')
    >>> _for_people(timedelta(hours=67))
    '3 days'
    """
    minutes = -(-duration // _MINUTE)
    if minutes < 120:
        return f"{minutes} min"
    return f"{round(minutes / 60)} h" if minutes < 2880 else f"{round(minutes / 1440)} days"
