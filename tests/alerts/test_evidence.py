"""What decided a condition, in words."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from alerts.error_budget_rules import ErrorBudgetRule, ForecastRule, HourlyCounts
from alerts.evidence import REASONS, condition_words, evidence_words, reason_words
from alerts.latency_rules import HourPair, Measured, ThresholdRule, TrendRule
from alerts.rules import (
    ComponentOverrunRule,
    Observation,
    Previous,
    Reason,
    Rule,
    Status,
    WindowCounts,
    milestone_rules,
)
from alerts.series_rules import Heard, NoDataRule, TimeoutsRule, TimeShare, UnallocatedComponentRule
from alerts.sights import Withdrawn
from budgets.burn_rates import BURN_RATE_WINDOWS
from budgets.histogram import AtLeast
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
MILESTONE = milestone_rules(0.99, 28)
BURNING = Observation(
    dict.fromkeys(BURN_RATE_WINDOWS, WindowCounts(judged=60, good=20, over=40, total=60, timeouts=12)),
    WindowCounts(judged=30, good=10),
)
COUNTS = WindowCounts(judged=10_000, good=9_920)
HOURS = np.full(28 * 24 + 1, 100)


def words(rule: Rule, observation: object) -> str:
    found = rule.judge(observation, Previous(Status.INACTIVE, NOW), NOW)
    return evidence_words(found.evidence)


@pytest.mark.parametrize(
    ("rule", "observation", "said"),
    [
        (
            MILESTONE["1h/5m"],
            BURNING,
            "1 h: 40 of 60 bad, burning 66.7×, limit 13.4×; 5 min: 40 of 60 bad, burning 66.7×, limit 13.4×",
        ),
        (
            MILESTONE["outage"],
            BURNING,
            "5 min: 40 of 60 bad, burning 66.7×, at least 10 bad; last full minute: 20 of 30 bad; limit half",
        ),
        (
            ComponentOverrunRule(objective=0.99),
            BURNING,
            "5 min: 40 of 60 over the allocation, 66.7 %, allowed 1 %, by chance less than once in 1,000,000,000",
        ),
        (TimeoutsRule(), BURNING, "5 min: 12 of 60 timed out, 20.0 %, allowed 1 %"),
        (
            ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=25),
            COUNTS,
            "20.0 % of the error budget left, limit 25 %: 80 of 10,000 bad",
        ),
        (
            ThresholdRule(percentile="p95", threshold_ms=500, window="5m"),
            Measured(620.0, 300),
            "5 min: p95 620 ms of 300 measured, limit 500 ms",
        ),
        (
            ThresholdRule(percentile="p95", threshold_ms=500, window="5m"),
            Measured(AtLeast(5000.0), 300),
            "5 min: p95 ≥ 5.00 s of 300 measured, limit 500 ms",
        ),
        (
            TrendRule(),
            [HourPair(Measured(134.0, 50), Measured(100.0, 50))] * 24,
            "p95 +34 % over the day, +34 % over the last 6 h, limit +20 %; 24 hours compared",
        ),
        (
            ForecastRule(objective=0.99, window_days=28),
            HourlyCounts(HOURS, np.zeros_like(HOURS), WindowCounts(judged=600, good=300)),
            "6 h: 300 of 600 bad, burning 50.0×; 100 % of the error budget left, gone in 14 h",
        ),
        (
            NoDataRule(silent_minutes=15),
            Heard(NOW - 40 * MINUTE, [NOW - n * MINUTE for n in range(40, 110)]),
            "last measured 21 Nov 2026, 19:20 UTC; limit 15 min without a measurement",
        ),
        (
            UnallocatedComponentRule(),
            TimeShare(component_ms=100, measured=50, milestone_ms=1000, milestone="first_token"),
            "1 h: 10.0 % of the time to first token, allowed 5 %",
        ),
    ],
)
def test_each_kind_tells_its_numbers_beside_their_limit(rule: Rule, observation: object, said: str) -> None:
    assert words(rule, observation) == said


@pytest.mark.parametrize(
    ("rule", "observation"),
    [
        (MILESTONE["1h/5m"], Observation(dict.fromkeys(BURN_RATE_WINDOWS, WindowCounts()))),
        (ComponentOverrunRule(objective=0.99), Observation({"5m": WindowCounts()})),
        (TimeoutsRule(), Observation({"5m": WindowCounts()})),
        (ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=25), WindowCounts()),
        (ThresholdRule(percentile="p95", threshold_ms=500, window="5m"), Measured()),
        (ForecastRule(objective=0.99, window_days=28), HourlyCounts(HOURS * 0, HOURS * 0)),
        (UnallocatedComponentRule(), TimeShare()),
    ],
)
def test_where_nothing_was_measured_it_says_no_data(rule: Rule, observation: object) -> None:
    assert "no data" in words(rule, observation)


def test_every_reason_of_a_decision_has_words() -> None:
    assert set(REASONS) == {*map(str, Reason), *map(str, Withdrawn)}


def test_what_another_version_left_is_told_as_far_as_it_can_be() -> None:
    assert reason_words("phase_of_the_moon") == "phase of the moon"
    assert evidence_words({"moon": "full"}) == ""


def test_conditions_read_as_what_they_ask() -> None:
    assert condition_words("1h/5m", "burn_rate") == "1 h and 5 min"
    assert condition_words("0", "error_budget") == "exhausted"
    assert condition_words("milestone:first_token", "no_data") == "first token"
