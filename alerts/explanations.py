"""What a rule will do, told before it is saved: whether it can fire, and how soon at how much that is bad.

How soon is found by the decisions themselves: a replay of even traffic that turns bad. Real traffic is not even,
so a slowdown may be seen sooner or later than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from budgets.burn_rates import BURN_RATE_WINDOWS, FactorChange, Severity, max_burn_rate

from .replays import Minutes, is_replayable, replay
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
from .series_rules import TimeoutsRule

BAD_RATIOS: Final = (0.02, 0.05, 0.20, 1.00)

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What comes of so much that is bad: when rules first fire, and when first as a page. None: never."""

    bad_ratio: float
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
    """By the share that is bad."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What rules of one target will do together, in numbers and in sentences."""

    requests_per_hour: float
    conditions: tuple[ConditionExplained, ...]
    reactions: tuple[Reaction, ...]
    sentences: tuple[str, ...]


def explain(rules: Mapping[str, Rule], *, requests_per_hour: float) -> Explanation:
    """Explains the rules of one target, by their keys, at so much traffic. Those that do not decide by
    counters over windows are left out."""
    rules = {key: rule for key, rule in rules.items() if is_replayable(rule)}
    fired: dict[tuple[str, float], list[tuple[timedelta, Severity]]] = {}
    horizon = max((rule.long_window + rule.for_ for rule in rules.values()), default=_MINUTE)
    horizon = max(horizon, timedelta(days=1))
    for bad_ratio in BAD_RATIOS:
        began, minutes = _even_traffic(requests_per_hour, bad_ratio, horizon)
        for key, rule in rules.items():
            fired[key, bad_ratio] = _firings(rule, minutes, began)
    conditions = tuple(_condition(key, rule, fired, requests_per_hour) for key, rule in rules.items())
    reactions = tuple(_reaction(bad_ratio, tuple(rules), fired) for bad_ratio in BAD_RATIOS)
    sentences = (
        *(one.sentence for one in conditions),
        *((_told_together(reactions, requests_per_hour),) if conditions else ()),
    )
    return Explanation(requests_per_hour, conditions, reactions, sentences)


def _even_traffic(requests_per_hour: float, bad_ratio: float, horizon: timedelta) -> tuple[datetime, Minutes]:
    """As long a time without anything bad as rules look back, then as long a one with; and when it turns."""
    before = after = horizon // _MINUTE
    arrived = np.floor(np.arange(before + after + 1) * requests_per_hour / 60 + 1e-9)
    requests = np.diff(arrived).astype(np.int64)
    turned_bad = np.floor((arrived - arrived[before]).clip(0) * bad_ratio + 1e-9)
    bad = np.diff(turned_bad).astype(np.int64)
    # Whatever is bad is a timeout: it is over any limit, and rules about timeouts see it too.
    return _START + before * _MINUTE, replace(Minutes.of(_START, good=requests - bad, bad=bad), timeouts=bad)


def _firings(rule: Rule, minutes: Minutes, began: datetime) -> list[tuple[timedelta, Severity]]:
    """After how long it first fires, and first as a page."""
    found: list[tuple[timedelta, Severity]] = []
    for one in replay(rule, minutes, since=began):
        severity = one.decision.severity
        if one.decision.is_active and severity is not None and (not found or severity == Severity.PAGE):
            found.append((one.at - began, severity))
            if severity == Severity.PAGE:
                break
    return found


def _condition(
    key: str,
    rule: Rule,
    fired: Mapping[tuple[str, float], list[tuple[timedelta, Severity]]],
    requests_per_hour: float,
) -> ConditionExplained:
    fires_after = {ratio: fired[key, ratio][0][0] if fired[key, ratio] else None for ratio in BAD_RATIOS}
    factor = table_factor = highest = None
    was_changed, can_fire = False, True
    severity = rule.severity or Severity.TICKET
    match rule:
        case BurnRateRule(objective=objective, tier=tier):
            severity = rule.severity or tier.severity
            factor, table_factor, highest = tier.factor, tier.table_factor, max_burn_rate(objective)
            was_changed, can_fire = tier.change is not None, factor < highest
        case OutageRule():
            severity = rule.severity or Severity.PAGE
    is_seen = fires_after[1.0] is not None
    said = [_what(rule, severity)]
    if isinstance(rule, BurnRateRule):
        if rule.tier.change_note:
            said.append(f"The factor was {rule.tier.change_note}.")
        if not can_fire:
            said.append(f"It can never fire: nothing burns faster than {highest:.4g}.")
        elif rule.tier.change == FactorChange.LOWERED:
            share = rule.tier.factor / max_burn_rate(rule.objective)
            said.append(f"It fires when more than {share * 100:.3g} % is bad.")
    if can_fire and not is_seen:
        said.append(f"At {_traffic(requests_per_hour)} too little comes in for it to fire.")
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
        sentence=f"{key}: {' '.join(said)}",
    )


def _what(rule: Rule, severity: Severity) -> str:
    """What it fires on."""
    match rule:
        case BurnRateRule(tier=tier):
            few = (
                f" With fewer than {MIN_BAD_FOR_PAGE} bad in {tier.long} it is a ticket."
                if severity == Severity.PAGE
                else ""
            )
            return (
                f"a {severity} when the last {tier.long} and the last {tier.short} both burn the error budget faster than "
                f"{tier.factor:.4g} times.{few}"
            )
        case OutageRule():
            return f"a {severity} when over half is bad in 5 minutes and in the last full one, at least {OUTAGE_MIN_BAD}."
        case ComponentOverrunRule():
            return (
                f"a {severity} when, of at least {OVERRUN_MIN_MEASURED} in 5 minutes, at least {OVERRUN_MIN_OVER} exceed the "
                "allocation, and more than chance explains."
            )
        case TimeoutsRule(share_ratio=share_ratio, min_timeouts=min_timeouts):
            return f"a {severity} when more than {share_ratio * 100:g} % time out in 5 minutes, at least {min_timeouts}."
    raise TypeError(f"{type(rule).__name__} is not explained")


def _reaction(
    bad_ratio: float,
    keys: tuple[str, ...],
    fired: Mapping[tuple[str, float], list[tuple[timedelta, Severity]]],
) -> Reaction:
    every = sorted(
        (after, keys.index(key), severity) for key in keys for after, severity in fired[key, bad_ratio]
    )
    noticed = every[0] if every else None
    paged = next((one for one in every if one[2] == Severity.PAGE), None)
    return Reaction(
        bad_ratio,
        noticed[0] if noticed else None,
        keys[noticed[1]] if noticed else None,
        paged[0] if paged else None,
        keys[paged[1]] if paged else None,
    )


def _told_together(reactions: tuple[Reaction, ...], requests_per_hour: float) -> str:
    return f"At {_traffic(requests_per_hour)}: " + "; ".join(map(_told, reactions)) + "."


def _told(reaction: Reaction) -> str:
    bad = "everything bad" if reaction.bad_ratio == 1 else f"{reaction.bad_ratio * 100:g} % bad"
    if reaction.noticed_after is None:
        return f"{bad}: nothing fires"
    if reaction.paged_after is None:
        return f"{bad}: a ticket after about {_for_people(reaction.noticed_after)}"
    page = f"{bad}: a page after about {_for_people(reaction.paged_after)}"
    if reaction.noticed_after + _MINUTE < reaction.paged_after:
        return f"{page}, a ticket after {_for_people(reaction.noticed_after)}"
    return page


def _traffic(requests_per_hour: float) -> str:
    return f"{requests_per_hour:,.0f} requests/h".replace(",", " ")


def _for_people(duration: timedelta) -> str:
    """To the minute below two hours, to the hour above.

    >>> _for_people(timedelta(minutes=2, seconds=59)), _for_people(timedelta(hours=14, minutes=20))
    ('3 min', '14 h')
    """
    minutes = -(-duration // _MINUTE)
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"


def longest_window(rules: Mapping[str, Rule]) -> timedelta:
    """How far back these rules look."""
    lengths = (BURN_RATE_WINDOWS[name] for rule in rules.values() for name in rule.windows)
    return max(lengths, default=_MINUTE)
