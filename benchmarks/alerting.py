"""What the rules make of simulated traffic: false pages while all is well, and how soon a slowdown is seen."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from .bench import Bench
from .report import Aim, Figure, Section, percentile

if TYPE_CHECKING:
    from alerts.minutes import Minutes
    from alerts.rules import Rule
    from budgets.burn_rates import Severity

REQUESTS_PER_HOUR = (20, 60, 300, 6000)
OBJECTIVES = (0.90, 0.95, 0.99, 0.999)
BAD_RATIOS = (0.02, 0.05, 0.20, 1.00)
WINDOW_DAYS = 30

AIM_FALSE_PAGES = 0.1  # in 30 days
AIM_COMPONENT_TICKETS = 0.1  # a day
# How many requests an hour -> minutes until a full outage is paged.
AIM_OUTAGE_MINUTES = {300: 6, 6000: 3}
AIM_FIVE_PERCENT_MINUTES = 20  # at 99.9 %, from 300 requests/h on

_MINUTE = timedelta(minutes=1)
_DAY_MINUTES = 1440
# The longest window: what rules are shown from the first moment on.
_BEFORE_MINUTES = 3 * _DAY_MINUTES
_SLOW_MINUTES = _DAY_MINUTES
_START = datetime(2026, 11, 1, tzinfo=UTC)

# Least traffic at three in the morning, most at three in the afternoon.
_SWING = 0.8
_BUSY_FROM_MINUTE, _BUSY_MINUTES = 9 * 60, 12 * 60


@dataclass(frozen=True, slots=True)
class Cell:
    """How much traffic against which objective."""

    requests_per_hour: int
    objective: float

    @property
    def label(self) -> str:
        return f"{self.requests_per_hour}/h at {self.objective * 100:g} %"

    @property
    def error_budget_ratio(self) -> float:
        from budgets.burn_rates import error_budget_ratio

        return error_budget_ratio(self.objective)

    @property
    def healthy_ratio(self) -> float:
        """What is bad while all is well: a quarter of what may be."""
        return self.error_budget_ratio / 4


@dataclass(frozen=True, slots=True)
class Delays:
    """How long after its beginning each slowdown was seen, in minutes; those that were not are left out."""

    slowdowns: int
    paged: tuple[float, ...]
    noticed: tuple[float, ...]
    """By a ticket or a page."""

    @property
    def not_paged_percent(self) -> float:
        return 100 * (1 - len(self.paged) / self.slowdowns)

    @property
    def not_noticed_percent(self) -> float:
        return 100 * (1 - len(self.noticed) / self.slowdowns)

    def paged_within(self, percent: float) -> float:
        """Minutes within which so many percent of all slowdowns were paged; infinite where fewer were."""
        missing = [float("inf")] * (self.slowdowns - len(self.paged))
        return percentile([*self.paged, *missing], percent)


def run(bench: Bench) -> Section:
    """Every cell: months of health, then slowdowns of every size that its objective does not allow."""
    months, slowdowns = bench.scale.alerting_months, bench.scale.alerting_slowdowns
    kinds = [
        (cell, bad_ratio)
        for cell in cells()
        for bad_ratio in BAD_RATIOS
        if bad_ratio > cell.error_budget_ratio
    ]
    night = [cell for cell in cells() if cell.requests_per_hour == min(AIM_OUTAGE_MINUTES)]
    # Processes of their own, as many as there are processors: there is nothing that they share.
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))
    try:
        in_health = {cell: pool.submit(healthy, cell, months) for cell in cells()}
        slowed = {kind: pool.submit(slow, *kind, slowdowns) for kind in kinds}
        by_night = {cell: pool.submit(slow, cell, 1.0, slowdowns, is_busy=False) for cell in night}
        rows = {f"{cell.label}, healthy": found.result() for cell, found in in_health.items()}
        healthy_rows = list(rows.values())
        bench.say(f"alerting: {months} healthy months of each of {len(rows)} cells")
        delays = {kind: found.result() for kind, found in slowed.items()}
        at_night = {cell: found.result() for cell, found in by_night.items()}
        bench.say(f"alerting: {slowdowns} slowdowns of each of {len(delays)} kinds")
    finally:
        pool.shutdown(cancel_futures=True)
    for (cell, bad_ratio), found in delays.items():
        rows[f"{cell.label}, {bad_ratio * 100:g} % bad"] = _figures(found)
    return Section(
        title=f"Alerting: the rules over simulated traffic, {months} × 30 days and {slowdowns} slowdowns of each kind",
        rows=rows,
        aims=list(_aims(healthy_rows, delays)),
        notes=[
            "Poisson arrivals that swing by 80 % about their mean within a day; of a healthy month a quarter of 1 − objective",
            "is bad. Rules are asked twice a minute. Pages and tickets are counted by incident: one that fires again within 30",
            "minutes is the same. A slowdown lasts 24 h and begins in the busier half of the day, at any second; delays are",
            "minutes from there. What the objective allows is no slowdown and is left out; of one that burns slower than six",
            "times, or too little for the traffic, the rules make a ticket at most.",
            "A full outage in the quieter half of the day is paged in the median after "
            + ", ".join(
                f"{found.paged_within(50):.0f} min at {cell.objective * 100:g} %"
                for cell, found in at_night.items()
            )
            + f" at {min(AIM_OUTAGE_MINUTES)}/h.",
        ],
    )


def cells() -> Iterator[Cell]:
    for requests_per_hour in REQUESTS_PER_HOUR:
        for objective in OBJECTIVES:
            yield Cell(requests_per_hour, objective)


def healthy(cell: Cell, months: int) -> dict[str, Figure]:
    """What fires in so many healthy months of 30 days, of a milestone and of a component."""
    from alerts.episodes import episodes, replay_together
    from alerts.rules import ComponentOverrunRule, milestone_rules

    rules = milestone_rules(cell.objective, WINDOW_DAYS)
    overrun = {"overrun": ComponentOverrunRule(objective=cell.objective)}
    pages = tickets = component_tickets = 0
    days = 30
    for month in range(months):
        rng = np.random.default_rng([cell.requests_per_hour, round(cell.objective * 1000), month])
        length = _BEFORE_MINUTES + days * _DAY_MINUTES
        minutes = _traffic(rng, cell, 0, np.full(length, cell.healthy_ratio))
        since = _START + _BEFORE_MINUTES * _MINUTE
        for episode in episodes(replay_together(rules, minutes, since=since)):
            pages += episode.paged_at is not None
            tickets += episode.paged_at is None
        component_tickets += len(episodes(replay_together(overrun, minutes, since=since)))
    return {
        "false pages in 30 d": Figure(pages / months, ""),
        "false tickets in 30 d": Figure(tickets / months, ""),
        "component tickets a day": Figure(component_tickets / months / days, ""),
    }


def slow(cell: Cell, bad_ratio: float, slowdowns: int, *, is_busy: bool = True) -> Delays:
    """How soon slowdowns are seen, each after three healthy days."""
    from alerts.rules import milestone_rules
    from budgets.burn_rates import Severity

    rules = milestone_rules(cell.objective, WINDOW_DAYS)
    paged, noticed = [], []
    for number in range(slowdowns):
        seed = [cell.requests_per_hour, round(cell.objective * 1000), round(bad_ratio * 100), number, is_busy]
        rng = np.random.default_rng(seed)
        at_minute = _BUSY_FROM_MINUTE + rng.uniform(0, _BUSY_MINUTES) + (0 if is_busy else _BUSY_MINUTES)
        first_minute, rest = int(at_minute), at_minute % 1
        ratios = np.full(_BEFORE_MINUTES + _SLOW_MINUTES, cell.healthy_ratio)
        ratios[_BEFORE_MINUTES:] = bad_ratio
        ratios[_BEFORE_MINUTES] = rest * cell.healthy_ratio + (1 - rest) * bad_ratio
        # Traffic begins three whole days before the minute in which the slowdown does.
        minutes = _traffic(rng, cell, first_minute, ratios)
        began = _START + (_BEFORE_MINUTES + rest) * _MINUTE
        paged += _first(rules, minutes, began, {Severity.PAGE})
        noticed += _first(rules, minutes, began, set(Severity))
    return Delays(slowdowns, tuple(paged), tuple(noticed))


def _first(
    rules: Mapping[str, Rule], minutes: Minutes, began: datetime, severities: set[Severity]
) -> list[float]:
    """The minutes until the first of these severities, if any came."""
    from alerts.replays import replay

    first = None
    for rule in rules.values():
        for one in replay(rule, minutes, since=began):
            if first is not None and one.at >= first:
                break
            if one.decision.severity in severities:
                first = one.at
                break
    return [] if first is None else [(first - began) / _MINUTE]


def _traffic(
    rng: np.random.Generator, cell: Cell, minute_of_day: int, bad_ratios: np.ndarray[Any, Any]
) -> Minutes:
    """Poisson arrivals from a minute of the day on, each bad by the ratio of its minute."""
    from alerts.minutes import Minutes

    hour = (minute_of_day + np.arange(len(bad_ratios))) / 60
    swing = 1 + _SWING * np.cos((hour - 15) / 24 * 2 * np.pi)
    requests = rng.poisson(cell.requests_per_hour / 60 * swing)
    bad = rng.binomial(requests, bad_ratios)
    return Minutes.of(_START, good=requests - bad, bad=bad)


def _figures(delays: Delays) -> dict[str, Figure]:
    figures = {}
    for verb, minutes, missed in (
        ("paged", delays.paged, delays.not_paged_percent),
        ("noticed", delays.noticed, delays.not_noticed_percent),
    ):
        if minutes:
            figures[f"{verb} p50"] = Figure(percentile(minutes, 50), "min", minutes)
            figures[f"{verb} p95"] = Figure(percentile(minutes, 95), "min")
        figures[f"not {verb}"] = Figure(missed, "%")
    return figures


def _aims(healthy_rows: list[dict[str, Figure]], delays: dict[tuple[Cell, float], Delays]) -> Iterator[Aim]:
    pages = max(row["false pages in 30 d"].value for row in healthy_rows)
    tickets = max(row["component tickets a day"].value for row in healthy_rows)
    yield Aim("false pages in 30 days, the worst cell", pages, "≤", AIM_FALSE_PAGES)
    yield Aim("component tickets a day, the worst cell", tickets, "≤", AIM_COMPONENT_TICKETS)
    for least, minutes in AIM_OUTAGE_MINUTES.items():
        outages = [
            found.paged_within(95)
            for (cell, bad_ratio), found in delays.items()
            if bad_ratio == 1 and cell.requests_per_hour >= least
        ]
        label = f"95 % of full outages from {least}/h on, the slowest objective"
        yield Aim(label, max(outages), "≤", minutes, "min")
    five = [
        found
        for (cell, bad_ratio), found in delays.items()
        if (bad_ratio, cell.objective) == (0.05, 0.999) and cell.requests_per_hour >= min(AIM_OUTAGE_MINUTES)
    ]
    label = f"5 % bad at 99.9 % from {min(AIM_OUTAGE_MINUTES)}/h on, median"
    yield Aim(label, max(found.paged_within(50) for found in five), "≤", AIM_FIVE_PERCENT_MINUTES, "min")
