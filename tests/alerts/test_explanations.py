"""What a rule says of itself before it is saved."""

from datetime import timedelta

import pytest

from alerts.error_budget_rules import ErrorBudgetRule, ForecastRule
from alerts.explanations import Explanation, Reaction, explain
from alerts.latency_rules import ThresholdRule, TrendRule
from alerts.rules import ComponentOverrunRule, milestone_rules
from alerts.series_rules import NoDataRule, TimeoutsRule, UnallocatedComponentRule
from budgets.burn_rates import Severity

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def milestone(objective: float = 0.99, requests_per_hour: float = 300, window_days: int = 30) -> Explanation:
    return explain(milestone_rules(objective, window_days), requests_per_hour=requests_per_hour)


def reaction(explanation: Explanation, bad_ratio: float) -> Reaction:
    return next(one for one in explanation.reactions if one.level == bad_ratio)


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
    assert reaction(found, 0.05) == Reaction(0.05, "5 % bad", None, None, None, None)
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
    assert "At an even 20 requests/h too little comes in" in outage.sentence
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


def test_burn_rate_tiers_are_named_in_words():
    assert (
        milestone(0.99)
        .sentences[0]
        .startswith(
            "Over 1 hour and over 5 minutes: a page when both burn the error budget faster than 14.4 times."
        )
    )
    assert (
        milestone(0.99)
        .sentences[3]
        .startswith(
            "Over 3 days and over 6 hours: a ticket when both burn the error budget faster than the objective allows."
        )
    )
    assert not any("1h" in sentence or "5m" in sentence for sentence in milestone(0.9, 20).sentences)


@pytest.mark.parametrize(
    ("rule", "begins", "told"),
    [
        (
            ThresholdRule(percentile="p95", threshold_ms=300, window="5m"),
            "A ticket when the p95 over 5 minutes is over 300 ms, of at least 20 measured.",
            "20 % over 300 ms: a ticket after about 2 min; 100 % over 300 ms: a ticket after about 1 min.",
        ),
        (
            TrendRule(),
            "A ticket when the p95 is 20 % above the same hours of the day before, over 24 hours and over the last 6, "
            "and chance does not explain it.",
            "p95 1.1 times as long: nothing fires; p95 1.25 times as long: a ticket after about 13 h",
        ),
        (
            ErrorBudgetRule(objective=0.99, window_days=28, remaining_percent=50),
            "Below 50 %: a ticket when less than 50 % of the error budget of 28 days is left.",
            # Half of 28 days at 1 % is 0.14 days of everything bad, and 0.14/0.05 of a twentieth.
            "At an even 600 requests/h and with a full error budget: 2 % bad: a ticket after about 7 days; 5 % bad: a ticket after "
            "about 3 days; 20 % bad: a ticket after about 17 h; everything bad: a ticket after about 3 h.",
        ),
        (
            ForecastRule(objective=0.99, window_days=28),
            "A ticket when the error budget of 28 days will be gone within 48 hours, also if chance",
            "5 % bad: a ticket after about 4 days; 20 % bad: a ticket after about 4 h",
        ),
        (
            NoDataRule(silent_minutes=15),
            "A ticket when nothing is measured for 15 minutes of what had reported for an hour without such a pause.",
            "At an even 600 requests/h: silence: a ticket after about 15 min.",
        ),
        (
            UnallocatedComponentRule(),
            "A ticket when it takes more than 5 % of the requests' time over an hour, of at least 20 measured.",
            "5 % of the time: nothing fires; 20 % of the time: a ticket after about 15 min",
        ),
    ],
)
def test_every_kind_explains_itself(rule, begins, told):
    found = explain({"key": rule}, requests_per_hour=600)
    assert found.sentences[0].startswith(begins)
    assert told in found.sentences[-1]
    assert found.conditions[0].can_fire_at_this_traffic


def test_what_reports_with_longer_pauses_than_a_rule_waits_is_not_silent():
    found = explain({"all": NoDataRule(silent_minutes=15)}, requests_per_hour=2)
    assert not found.conditions[0].can_fire_at_this_traffic
    assert "At an even 2 requests/h too little comes in for it to fire." in found.sentences[0]
