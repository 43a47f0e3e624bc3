"""Decisions of the alert rules: when each fires and clears, and how its state moves on."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rules import (
    NOTHING,
    BurnRateRule,
    ComponentOverrunRule,
    Decision,
    Observation,
    OutageRule,
    Previous,
    Reason,
    Rule,
    Status,
    WindowCounts,
    decide,
    milestone_rules,
)
from budgets.burn_rates import BURN_RATE_WINDOWS, Severity, tiers_for

NOW = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
INACTIVE = Previous(Status.INACTIVE, NOW - 24 * HOUR)

FAST = milestone_rules(0.99, 30)["1h/5m"]  # a page above 14.4: more than 144 bad of 1000
SLOW = milestone_rules(0.99, 30)["3d/6h"]  # a ticket above 1: more than 10 bad of 1000
OUTAGE = OutageRule(objective=0.99)
OVERRUN = ComponentOverrunRule(objective=0.99)


def counts(bad: int, judged: int = 1000) -> WindowCounts:
    return WindowCounts(judged=judged, good=judged - bad, over=bad, total=judged)


def observe(
    everywhere: WindowCounts = NOTHING, last_minute: WindowCounts = NOTHING, **windows: WindowCounts
) -> Observation:
    """The same counts in every window, but for those named w5m=, w1h=, …"""
    named = {name.removeprefix("w"): window for name, window in windows.items()}
    return Observation(dict.fromkeys(BURN_RATE_WINDOWS, everywhere) | named, last_minute)


HEALTHY = observe(counts(0), counts(0))
BURNING = observe(counts(145))
SILENT = observe()


def component(over: int, judged: int) -> Observation:
    return Observation({"5m": counts(over, judged)})


def play(rule: Rule, *steps: tuple[timedelta, Observation], start: Previous = INACTIVE) -> list[Decision]:
    """The decisions of a rule that is asked at each instant after NOW, remembering from one to the next."""
    decisions: list[Decision] = []
    for after, observation in steps:
        previous = decisions[-1].remembered() if decisions else start
        decisions.append(decide(rule, observation, previous, NOW + after))
    return decisions


def statuses(decisions: list[Decision]) -> list[Status]:
    return [decision.status for decision in decisions]


# Burn-rate tiers


def test_a_tier_fires_when_both_windows_burn_faster_than_its_factor():
    decision = decide(FAST, BURNING, INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.FIRING, Reason.BURNING)
    assert (decision.severity, decision.burn_rate, decision.since) == (Severity.PAGE, 14.5, NOW)


def test_burning_at_exactly_the_factor_fires_nothing():
    decision = decide(FAST, observe(counts(144)), INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.INACTIVE, Reason.LONG_WINDOW_SLOW)
    assert decision.burn_rate == 14.4
    assert decide(SLOW, observe(counts(10)), INACTIVE, NOW).status == Status.INACTIVE
    assert decide(SLOW, observe(counts(11)), INACTIVE, NOW).status == Status.FIRING


@pytest.mark.parametrize(
    ("slow_window", "reason"), [("w1h", Reason.LONG_WINDOW_SLOW), ("w5m", Reason.SHORT_WINDOW_SLOW)]
)
def test_one_window_alone_fires_nothing(slow_window, reason):
    decision = decide(FAST, observe(counts(500), **{slow_window: counts(144)}), INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.INACTIVE, reason)


@pytest.mark.parametrize("key", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"])
def test_each_tier_looks_at_its_own_two_windows_and_factor(key):
    rule = milestone_rules(0.999, 30)[key]
    long, short = key.split("/")
    one_more = int(rule.tier.factor * 100) + 1  # of 100 000 at 99.9 %
    windows = {f"w{long}": counts(one_more, 100_000), f"w{short}": counts(one_more, 100_000)}
    fresh = {} if long == "1h" else {"w1h": counts(one_more, 100_000)}
    assert decide(rule, observe(counts(0), **fresh, **windows), INACTIVE, NOW).status == Status.FIRING
    for window in windows:
        slower = windows | {window: counts(one_more - 1, 100_000)}
        assert decide(rule, observe(counts(0), **fresh, **slower), INACTIVE, NOW).status == Status.INACTIVE


def test_a_lax_objective_fires_at_its_lowered_factor():
    rule = milestone_rules(0.9, 30)["1h/5m"]
    assert decide(rule, observe(counts(801)), INACTIVE, NOW).status == Status.FIRING
    assert decide(rule, observe(counts(800)), INACTIVE, NOW).status == Status.INACTIVE


@pytest.mark.parametrize("objective", [0.5, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize("window_days", [7, 28, 30])
def test_every_tier_fires_when_everything_is_bad(objective, window_days):
    for rule in milestone_rules(objective, window_days).values():
        assert decide(rule, observe(counts(1000), counts(100, 100)), INACTIVE, NOW).status == Status.FIRING


@pytest.mark.parametrize(
    ("bad", "severity", "reason"),
    [
        (1, Severity.TICKET, Reason.BURNING_FEW_BAD),
        (2, Severity.TICKET, Reason.BURNING_FEW_BAD),
        (3, Severity.PAGE, Reason.BURNING),
    ],
)
def test_a_page_needs_three_bad_events_in_its_long_window(bad, severity, reason):
    decision = decide(FAST, observe(w1h=counts(bad, 6), w5m=counts(1, 2)), INACTIVE, NOW)
    assert (decision.status, decision.severity, decision.reason) == (Status.FIRING, severity, reason)


def test_a_ticket_tier_needs_no_three():
    assert decide(SLOW, observe(counts(1, 20)), INACTIVE, NOW).reason == Reason.BURNING


def test_a_ticket_becomes_a_page_and_never_the_other_way_while_it_fires():
    few, many = observe(counts(2, 6)), observe(counts(3, 6))
    decisions = play(FAST, (0 * MINUTE, few), (1 * MINUTE, many), (2 * MINUTE, few), (3 * MINUTE, HEALTHY))
    assert [decision.severity for decision in decisions] == ["ticket", "page", "page", "page"]
    assert decisions[-1].status == Status.RECOVERING


def test_low_traffic_at_three_nines_pages_nobody():
    """20 requests/h, one in a thousand bad by chance, 30 days: without the guard this pages several times."""
    random = np.random.default_rng(7)
    minutes = 30 * 24 * 60
    judged = random.poisson(20 / 60, minutes)
    bad = random.binomial(judged, 0.001)
    sums = {
        name: [
            np.convolve(series, np.ones(length // MINUTE, dtype=int))[:minutes] for series in (bad, judged)
        ]
        for name, length in BURN_RATE_WINDOWS.items()
        if name in ("5m", "30m", "1h", "6h")
    }
    severities, unguarded_pages = [], 0
    for key in ("1h/5m", "6h/30m"):
        rule = milestone_rules(0.999, 30)[key]
        for minute in np.flatnonzero(sums[rule.tier.short][0]):
            windows = {name: counts(int(b[minute]), int(j[minute])) for name, (b, j) in sums.items()}
            decision = decide(rule, Observation(windows), INACTIVE, NOW)
            if decision.is_active:
                severities.append(decision.severity)
                unguarded_pages += rule.tier.severity == Severity.PAGE
    assert unguarded_pages > 5
    assert set(severities) == {Severity.TICKET}


def test_nothing_fires_about_a_time_over_an_hour_past():
    late = observe(counts(500), w1h=counts(0))
    rule = milestone_rules(0.99, 30)["1d/2h"]
    decision = decide(rule, late, INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.INACTIVE, Reason.STALE)


@pytest.mark.parametrize(
    ("key", "at_factor", "above"),
    [("1d/2h", counts(30), counts(31)), ("3d/6h", counts(10), counts(11))],
)
def test_a_tier_whose_short_window_exceeds_an_hour_starts_only_while_the_last_hour_burns(
    key, at_factor, above
):
    """One stray bad request in the hour does not make news of what came late about hours before."""
    rule = milestone_rules(0.99, 30)[key]
    for quiet in (counts(1), at_factor, NOTHING):
        decision = decide(rule, observe(counts(500), w1h=quiet), INACTIVE, NOW)
        assert (decision.status, decision.reason) == (Status.INACTIVE, Reason.STALE)
        firing = Previous(Status.FIRING, NOW - HOUR, Severity.TICKET)
        assert decide(rule, observe(counts(500), w1h=quiet), firing, NOW).status == Status.FIRING
    decision = decide(rule, observe(counts(500), w1h=above), INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.FIRING, Reason.BURNING)
    assert decision.evidence["fresh"] == {
        "window": "1h",
        "judged": 1000,
        "bad": above.bad,
        "burn_rate": pytest.approx(above.bad / 10),
    }


def test_a_tier_whose_short_window_is_within_the_hour_asks_for_no_more():
    rule = milestone_rules(0.99, 30)["6h/30m"]
    decision = decide(rule, observe(counts(500), w1h=counts(20)), INACTIVE, NOW)
    assert (decision.status, decision.reason) == (Status.FIRING, Reason.BURNING)
    assert set(decision.evidence) == {"factor", "long", "short"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.PENDING, Status.INACTIVE),
        (Status.FIRING, Status.FIRING),
        (Status.RECOVERING, Status.RECOVERING),
    ],
)
def test_what_is_over_an_hour_past_keeps_a_rule_firing_and_starts_none(status, expected):
    late = observe(counts(500), w1h=counts(0))
    decision = decide(SLOW, late, Previous(status, NOW - MINUTE, Severity.TICKET), NOW)
    assert (decision.status, decision.reason) == (expected, Reason.STALE)


def test_a_burn_rate_decision_carries_the_numbers_that_decided():
    decision = decide(FAST, observe(w1h=counts(150), w5m=counts(30, 100)), INACTIVE, NOW)
    assert decision.evidence == {
        "factor": 14.4,
        "long": {"window": "1h", "judged": 1000, "bad": 150, "burn_rate": 15.0},
        "short": {"window": "5m", "judged": 100, "bad": 30, "burn_rate": 30.0},
    }


# Outage


@pytest.mark.parametrize(
    ("window", "last_minute", "reason"),
    [
        (counts(10, 19), counts(3, 5), Reason.OUTAGE),
        (counts(51, 100), counts(1, 1), Reason.OUTAGE),
        (counts(50, 100), counts(5, 5), Reason.NO_OUTAGE),
        (counts(60, 100), counts(5, 10), Reason.OUTAGE_OVER),
        (counts(9, 9), counts(9, 9), Reason.OUTAGE_FEW_BAD),
        (counts(60, 100), NOTHING, Reason.NO_DATA),
        (NOTHING, NOTHING, Reason.NO_DATA),
    ],
)
def test_an_outage_is_over_half_bad_for_five_minutes_and_the_last_full_one(window, last_minute, reason):
    decision = decide(OUTAGE, observe(w5m=window, last_minute=last_minute), INACTIVE, NOW)
    assert decision.reason == reason
    assert decision.status == (Status.FIRING if reason == Reason.OUTAGE else Status.INACTIVE)


def test_an_outage_pages_with_its_burn_rate():
    decision = decide(OUTAGE, observe(w5m=counts(60, 100), last_minute=counts(20, 20)), INACTIVE, NOW)
    assert (decision.severity, decision.burn_rate) == (Severity.PAGE, 60.0)


def test_an_outage_of_a_lax_objective_is_seen_before_its_fastest_tier_fires():
    """At 95 % the hour needs 44 bad minutes (14.4 × 5 % = 72 %); the outage rule needs three."""
    bad_minutes = {
        name: counts(100 * min(3, length // MINUTE), 100 * (length // MINUTE))
        for name, length in BURN_RATE_WINDOWS.items()
    }
    observation = Observation(bad_minutes, counts(100, 100))
    rules = milestone_rules(0.95, 30)
    assert decide(rules["outage"], observation, INACTIVE, NOW).status == Status.FIRING
    assert decide(rules["1h/5m"], observation, INACTIVE, NOW).status == Status.INACTIVE


# Component overrun


@pytest.mark.parametrize(
    ("over", "judged", "reason"),
    [
        (0, 1000, Reason.WITHIN_OBJECTIVE),
        (10, 1000, Reason.WITHIN_OBJECTIVE),
        (11, 1000, Reason.CHANCE),
        (19, 19, Reason.FEW_MEASURED),
        (2, 20, Reason.FEW_OVER),
        (3, 20, Reason.CHANCE),
        (4, 20, Reason.OVERRUN),
        (6, 100, Reason.CHANCE),
        (7, 100, Reason.OVERRUN),
        (0, 0, Reason.NO_DATA),
    ],
)
def test_a_component_overruns_when_chance_does_not_explain_it(over, judged, reason):
    decision = decide(OVERRUN, component(over, judged), INACTIVE, NOW)
    assert decision.reason == reason
    if reason == Reason.OVERRUN:
        assert (decision.status, decision.severity) == (Status.FIRING, Severity.TICKET)
    else:
        assert (decision.status, decision.severity) == (Status.INACTIVE, None)
    assert decision.burn_rate is None


@given(st.integers(min_value=20, max_value=400), st.data())
def test_the_chance_of_an_overrun_is_the_exact_binomial_tail(judged, data):
    over = data.draw(
        st.integers(min_value=max(3, judged // 100 + 1), max_value=min(judged, judged // 100 + 12))
    )
    p = Fraction("0.01")
    tail = 1 - sum(math.comb(judged, k) * p**k * (1 - p) ** (judged - k) for k in range(over))
    decision = decide(OVERRUN, component(over, judged), INACTIVE, NOW)
    assert decision.evidence["chance"] == pytest.approx(float(tail), rel=1e-9)
    assert (decision.status == Status.FIRING) == (tail < Fraction("0.0001"))


def test_three_over_of_many_measured_fire_where_the_objective_is_strict():
    strict = ComponentOverrunRule(objective=0.9999)
    assert decide(strict, component(3, 100), INACTIVE, NOW).status == Status.FIRING
    assert decide(strict, component(2, 100), INACTIVE, NOW).reason == Reason.FEW_OVER


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.PENDING, Status.FIRING])
@pytest.mark.parametrize("between", [component(11, 1000), component(2, 20), component(3, 15)])
def test_between_firing_and_clearing_a_component_rule_stays_as_it_is(status, between):
    before = Previous(status, NOW - HOUR, None if status == Status.INACTIVE else Severity.TICKET)
    decision = decide(OVERRUN, between, before, NOW)
    assert decision.remembered() == before


def test_a_component_that_hovers_above_its_objective_begins_its_recovery_anew():
    clear, hovering = component(10, 1000), component(11, 1000)
    decisions = play(
        OVERRUN,
        (0 * MINUTE, component(100, 1000)),
        (1 * MINUTE, clear),
        *((minutes * MINUTE, hovering) for minutes in range(2, 61)),
        (61 * MINUTE, clear),
        (65 * MINUTE - SECOND, clear),
        (65 * MINUTE, clear),
    )
    assert statuses(decisions) == [Status.FIRING, *[Status.RECOVERING] * 62, Status.INACTIVE]
    assert [one.since - NOW for one in decisions[-4:]] == [*[60 * MINUTE] * 3, 65 * MINUTE]


def test_silence_before_hovering_moves_the_beginning_of_a_recovery_no_further_than_now():
    before = Previous(Status.RECOVERING, NOW - 4 * MINUTE, Severity.TICKET, NOW - 3 * MINUTE)
    decision = decide(OVERRUN, component(11, 1000), before, NOW)
    assert (decision.status, decision.since, decision.no_data_since) == (Status.RECOVERING, NOW, None)


def test_a_component_clears_at_the_share_that_its_objective_allows():
    before = Previous(Status.FIRING, NOW - HOUR, Severity.TICKET)
    decision = decide(OVERRUN, component(10, 1000), before, NOW)
    assert (decision.status, decision.reason) == (Status.RECOVERING, Reason.WITHIN_OBJECTIVE)


def test_a_component_exactly_on_target_in_decimal_is_within_its_objective():
    """In binary, 1 − 0.93 is less than 7 / 100."""
    decision = decide(ComponentOverrunRule(objective=0.93), component(7, 100), INACTIVE, NOW)
    assert decision.reason == Reason.WITHIN_OBJECTIVE


def test_a_healthy_component_opens_nothing_in_a_day_and_a_sick_one_within_its_window():
    """60 requests a minute at half the allowed share: without the test of chance it fires all day."""
    random = np.random.default_rng(11)
    over = np.convolve(random.binomial(60, 0.005, 24 * 60), np.ones(5, dtype=int), mode="valid")
    decisions = [decide(OVERRUN, component(int(count), 300), INACTIVE, NOW) for count in over]
    assert not any(decision.is_active for decision in decisions)
    assert sum(decision.reason == Reason.CHANCE for decision in decisions) > 20
    assert decide(OVERRUN, component(15, 300), INACTIVE, NOW).is_active


def test_a_component_decision_carries_the_numbers_that_decided():
    evidence = decide(OVERRUN, component(7, 100), INACTIVE, NOW).evidence
    assert evidence.pop("chance") == pytest.approx(7.1084e-05, rel=1e-4)
    assert evidence == {"window": "5m", "judged": 100, "over": 7, "over_ratio": 0.07, "allowed_ratio": 0.01}


# State


def test_a_rule_fires_at_once_where_it_need_not_hold():
    assert statuses(play(FAST, (0 * SECOND, BURNING))) == [Status.FIRING]


def test_a_condition_must_hold_for_as_long_as_the_rule_asks():
    patient = replace(FAST, for_=2 * MINUTE)
    decisions = play(
        patient,
        (0 * SECOND, BURNING),
        (119 * SECOND, BURNING),
        (120 * SECOND, BURNING),
        (130 * SECOND, BURNING),
    )
    assert statuses(decisions) == [Status.PENDING, Status.PENDING, Status.FIRING, Status.FIRING]
    assert [decision.since - NOW for decision in decisions] == [
        0 * SECOND,
        0 * SECOND,
        2 * MINUTE,
        2 * MINUTE,
    ]
    assert [decision.is_active for decision in decisions] == [False, False, True, True]


def test_a_condition_that_stops_holding_starts_over():
    patient = replace(FAST, for_=2 * MINUTE)
    decisions = play(
        patient, (0 * MINUTE, BURNING), (1 * MINUTE, HEALTHY), (2 * MINUTE, BURNING), (3 * MINUTE, BURNING)
    )
    assert statuses(decisions) == [Status.PENDING, Status.INACTIVE, Status.PENDING, Status.PENDING]


def test_a_rule_resolves_when_its_condition_has_been_false_for_five_minutes():
    decisions = play(
        FAST,
        (0 * SECOND, BURNING),
        (60 * SECOND, HEALTHY),
        (359 * SECOND, HEALTHY),
        (360 * SECOND, HEALTHY),
        (370 * SECOND, HEALTHY),
    )
    assert statuses(decisions) == [
        Status.FIRING,
        Status.RECOVERING,
        Status.RECOVERING,
        Status.INACTIVE,
        Status.INACTIVE,
    ]
    assert [decision.severity for decision in decisions] == ["page", "page", "page", None, None]
    assert [decision.since - NOW for decision in decisions[1:]] == [MINUTE, MINUTE, 6 * MINUTE, 6 * MINUTE]


def test_a_dip_while_recovering_is_the_same_trouble():
    decisions = play(
        FAST, (0 * MINUTE, BURNING), (1 * MINUTE, HEALTHY), (3 * MINUTE, BURNING), (4 * MINUTE, HEALTHY)
    )
    assert statuses(decisions) == [Status.FIRING, Status.RECOVERING, Status.FIRING, Status.RECOVERING]
    assert decisions[-1].since == NOW + 4 * MINUTE


def test_a_rule_that_keeps_nothing_firing_resolves_at_once():
    abrupt = replace(FAST, keep_firing_for=timedelta(0))
    assert statuses(play(abrupt, (0 * MINUTE, BURNING), (1 * MINUTE, HEALTHY))) == ["firing", "inactive"]


def test_asking_twice_at_one_instant_changes_nothing():
    once = decide(FAST, BURNING, INACTIVE, NOW)
    assert decide(FAST, BURNING, once.remembered(), NOW) == once


# No data


@pytest.mark.parametrize("gap", ["w1h", "w5m"])
@pytest.mark.parametrize("status", list(Status))
def test_a_window_without_data_freezes_a_rule(status, gap):
    before = Previous(status, NOW - 30 * MINUTE, None if status == Status.INACTIVE else Severity.PAGE)
    decision = decide(FAST, observe(counts(500), **{gap: NOTHING}), before, NOW)
    assert (decision.status, decision.since, decision.severity) == (status, before.since, before.severity)
    assert decision.reason == Reason.NO_DATA
    assert decision.no_data_since == (None if status == Status.INACTIVE else NOW)


def test_measurements_that_were_not_judged_are_no_data():
    unjudged = WindowCounts(total=500)
    assert decide(FAST, observe(unjudged), INACTIVE, NOW).reason == Reason.NO_DATA
    assert decide(OVERRUN, Observation({"5m": unjudged}), INACTIVE, NOW).reason == Reason.NO_DATA


@pytest.mark.parametrize(
    ("rule", "at_most"),
    [(FAST, HOUR), (SLOW, 72 * HOUR), (OUTAGE, 5 * MINUTE), (OVERRUN, 5 * MINUTE)],
)
def test_a_frozen_rule_resolves_after_its_long_window(rule, at_most):
    firing = Previous(Status.FIRING, NOW - MINUTE, Severity.TICKET)
    silence, almost, timeout = play(
        rule, (0 * SECOND, SILENT), (at_most - SECOND, SILENT), (at_most, SILENT), start=firing
    )
    assert (silence.status, silence.no_data_since) == (Status.FIRING, NOW)
    assert (almost.status, almost.reason, almost.no_data_since) == (Status.FIRING, Reason.NO_DATA, NOW)
    assert (timeout.status, timeout.reason) == (Status.INACTIVE, Reason.NO_DATA_TIMEOUT)
    assert timeout.remembered() == Previous(Status.INACTIVE, NOW + at_most)


def test_data_ends_the_freeze_and_the_next_silence_counts_from_its_own_start():
    decisions = play(
        FAST,
        (0 * MINUTE, BURNING),
        (10 * MINUTE, SILENT),
        (50 * MINUTE, BURNING),
        (60 * MINUTE, SILENT),
        (119 * MINUTE, SILENT),
        (120 * MINUTE, SILENT),
    )
    assert statuses(decisions) == ["firing"] * 5 + ["inactive"]
    assert decisions[2].no_data_since is None


def test_a_frozen_clock_stands_still():
    patient = replace(FAST, for_=2 * MINUTE)
    pending = play(
        patient, (0 * MINUTE, BURNING), (1 * MINUTE, SILENT), (30 * MINUTE, BURNING), (31 * MINUTE, BURNING)
    )
    assert statuses(pending) == ["pending", "pending", "pending", "firing"]
    recovering = play(
        FAST,
        (0 * MINUTE, BURNING),
        (1 * MINUTE, HEALTHY),
        (2 * MINUTE, SILENT),
        (30 * MINUTE, HEALTHY),
        (33 * MINUTE, HEALTHY),
        (34 * MINUTE, HEALTHY),
    )
    assert statuses(recovering) == ["firing"] + ["recovering"] * 4 + ["inactive"]


# Laws of the state machine

any_counts = st.builds(
    lambda judged, share: counts(round(judged * share), judged),
    st.sampled_from([0, 3, 30, 1000]),
    st.sampled_from([0, 0.005, 0.02, 0.2, 0.6, 1]),
)
any_observation = st.builds(
    Observation, st.fixed_dictionaries(dict.fromkeys(BURN_RATE_WINDOWS, any_counts)), any_counts
)
any_rule = st.builds(
    lambda rule, for_, keep: replace(rule, for_=for_ * MINUTE, keep_firing_for=keep * MINUTE),
    st.sampled_from([*milestone_rules(0.99, 28).values(), *milestone_rules(0.9, 7).values(), OVERRUN]),
    st.sampled_from([0, 2, 10]),
    st.sampled_from([0, 5]),
)
any_history = st.lists(st.tuples(st.integers(1, 200).map(lambda n: n * MINUTE), any_observation), max_size=25)


@given(any_rule, any_history)
def test_every_history_keeps_the_laws(rule, history):
    after, steps = timedelta(0), []
    for pause, observation in history:
        after += pause
        steps.append((after, observation))
    decisions = play(rule, *steps)
    for (at, _), decision in zip(steps, decisions, strict=True):
        assert decision.since <= NOW + at
        assert (decision.severity is None) == (decision.status == Status.INACTIVE)
        assert (decision.no_data_since is not None) <= (decision.reason == Reason.NO_DATA)
        json.dumps(decision.evidence, allow_nan=False)
    for before, decision in pairwise([Decision(Status.INACTIVE, NOW, "", None, None, {}, None), *decisions]):
        step = (before.status, decision.status)
        assert step not in {("inactive", "recovering"), ("pending", "recovering"), ("recovering", "pending")}
        if decision.status == Status.FIRING != before.status:
            assert decision.reason in {Reason.BURNING, Reason.BURNING_FEW_BAD, Reason.OUTAGE, Reason.OVERRUN}
        if decision.reason == Reason.NO_DATA:
            assert decision.status == before.status
        if rule.for_:
            assert step != ("inactive", "firing")
        if rule.keep_firing_for and decision.reason != Reason.NO_DATA_TIMEOUT:
            assert step != ("firing", "inactive")


# Parameters


def test_a_milestone_is_watched_by_its_tiers_and_the_outage_rule():
    rules = milestone_rules(0.99, 28, for_=MINUTE, keep_firing_for=2 * MINUTE)
    tiers = tiers_for(0.99, 28)
    assert list(rules) == [*(tier.name for tier in tiers), "outage"]
    assert [rule.tier for rule in rules.values() if isinstance(rule, BurnRateRule)] == list(tiers)
    assert {(rule.for_, rule.keep_firing_for) for rule in rules.values()} == {(MINUTE, 2 * MINUTE)}


def test_rules_fire_at_once_and_keep_firing_for_five_minutes_unless_told_otherwise():
    assert (
        (FAST.for_, FAST.keep_firing_for)
        == (OVERRUN.for_, OVERRUN.keep_firing_for)
        == (0 * MINUTE, 5 * MINUTE)
    )
