"""What a rule says of itself before it is saved."""

from datetime import timedelta

import pytest

from alerts.explanations import Explanation, Reaction, explain
from alerts.latency_rules import ThresholdRule
from alerts.rules import ComponentOverrunRule, milestone_rules
from alerts.series_rules import TimeoutsRule
from budgets.burn_rates import Severity

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def milestone(objective: float = 0.99, requests_per_hour: float = 300, window_days: int = 30) -> Explanation:
    return explain(milestone_rules(objective, window_days), requests_per_hour=requests_per_hour)


def reaction(explanation: Explanation, bad_ratio: float) -> Reaction:
    return next(one for one in explanation.reactions if one.bad_ratio == bad_ratio)


@pytest.mark.parametrize(
    ("objective", "bad_ratio", "minutes"),
    [
        (0.99, 0.20, 0.144 / 0.20 * 60),  # 14.4 % of an hour is bad
        (0.999, 0.05, 0.0144 / 0.05 * 60),
        (0.999, 0.02, 0.0144 / 0.02 * 60),
    ],
)
def test_a_page_comes_when_an_hour_holds_what_its_factor_asks_for(objective, bad_ratio, minutes):
    found = reaction(milestone(objective, 6000), bad_ratio)
    assert found.paged_by == "1h/5m"
    assert found.paged_after is not None
    assert found.paged_after / MINUTE == pytest.approx(minutes, abs=1.5)


def test_an_outage_is_paged_by_its_own_rule_at_a_lax_objective():
    found = reaction(milestone(0.9, 300), 1.0)
    assert found.paged_by == "outage"
    assert found.paged_after is not None
    assert found.paged_after <= 3 * MINUTE


def test_what_burns_too_slowly_for_a_page_makes_a_ticket():
    """2 % bad at 99 % burns twice as fast as it may: after half of three days more than 1 % of them is bad."""
    found = reaction(milestone(0.99, 300), 0.02)
    assert (found.paged_after, found.noticed_by) == (None, "3d/6h")
    assert found.noticed_after is not None
    assert found.noticed_after / HOUR == pytest.approx(36, abs=1)


def test_what_the_objective_allows_fires_nothing():
    found = milestone(0.9, 300)
    assert reaction(found, 0.05) == Reaction(0.05, None, None, None, None)
    assert "5 % bad: nothing fires" in found.sentences[-1]


def test_few_requests_make_a_ticket_first():
    found = reaction(milestone(0.999, 20), 0.20)
    assert found.noticed_after is not None
    assert found.paged_after is not None
    assert found.noticed_after < found.paged_after
    assert "a ticket after" in milestone(0.999, 20).sentences[-1]


def test_a_factor_that_the_ceiling_lowered_says_so():
    [first, *_] = milestone(0.9).conditions
    assert (first.factor, first.table_factor, first.highest_burn_rate) == (8.0, 14.4, 10.0)
    assert first.was_changed
    assert first.can_fire
    assert "lowered from 14.4: at an objective of 90 % nothing burns faster than 10" in first.sentence
    assert "when more than 80 % is bad" in first.sentence


def test_a_rule_that_sees_too_little_says_so():
    outage = next(one for one in milestone(0.99, 20).conditions if one.key == "outage")
    assert (outage.can_fire, outage.can_fire_at_this_traffic) == (True, False)
    assert "At 20 requests/h too little comes in" in outage.sentence
    quiet = explain({"tools": ComponentOverrunRule(objective=0.99)}, requests_per_hour=60)
    assert not quiet.conditions[0].can_fire_at_this_traffic


def test_without_traffic_nothing_fires():
    found = milestone(0.99, 0)
    assert {one.noticed_after for one in found.reactions} == {None}
    assert not any(one.can_fire_at_this_traffic for one in found.conditions)


def test_timeouts_are_seen_by_their_rule():
    found = explain({"tools": TimeoutsRule()}, requests_per_hour=6000)
    assert reaction(found, 0.02).noticed_by == "tools"
    assert "more than 1 % time out" in found.sentences[0]


def test_a_severity_that_somebody_chose_is_the_one_that_is_told():
    rules = {"tools": ComponentOverrunRule(objective=0.99, severity=Severity.PAGE)}
    found = explain(rules, requests_per_hour=6000)
    assert found.conditions[0].severity == Severity.PAGE
    assert reaction(found, 1.0).paged_by == "tools"


def test_rules_that_look_at_more_than_counters_are_left_out():
    found = explain(
        {"p95": ThresholdRule(percentile="p95", threshold_ms=1, window="5m")}, requests_per_hour=60
    )
    assert (found.conditions, found.sentences) == ((), ())
