"""Replays: the real decisions over counters by the minute, and what they make together."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.episodes import Episode, Standing, episodes, replay_together, severity_at, together
from alerts.lookbacks import observed
from alerts.minutes import Minutes
from alerts.replays import replay
from alerts.rules import (
    BurnRateRule,
    ComponentOverrunRule,
    OutageRule,
    Reason,
    Rule,
    Status,
    WindowCounts,
    milestone_rules,
)
from alerts.series_rules import TimeoutsRule
from budgets.burn_rates import BURN_RATE_WINDOWS, Severity, last_full_minute, window_bounds

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
PAGE, TICKET = Severity.PAGE, Severity.TICKET


def by_minute(*runs: tuple[int, int, int]) -> Minutes:
    """Runs of (minutes, good in each, bad in each)."""
    good = [good for minutes, good, _ in runs for _ in range(minutes)]
    bad = [bad for minutes, _, bad in runs for _ in range(minutes)]
    return Minutes.of(START, good=good, bad=bad)


def told(rule: Rule, minutes: Minutes, **options: bool) -> list[tuple[datetime, Status, str]]:
    return [(one.at, one.status, one.decision.reason) for one in replay(rule, minutes, **options)]


# -- what a rule is shown ------------------------------------------------------------------------------


@given(st.integers(0, 12 * 60 - 1), st.sampled_from([0, 59]))
def test_a_rule_is_shown_the_windows_that_an_evaluation_at_that_instant_reads(minute, second):
    rng = np.random.default_rng(1)
    judged = rng.integers(0, 9, 12 * 60)
    minutes = Minutes.of(START, good=judged // 2, bad=judged - judged // 2)
    now = START + minute * MINUTE + second * SECOND
    moment = minutes.moment(now)
    assert minutes.instant(moment) == now
    rule = milestone_rules(0.99, 30)["3d/6h"]
    observation = observed(rule, minutes, moment)

    def expected(start: datetime, end: datetime) -> int:
        # At its first second nothing of the running minute is known.
        inside = [n for n in range(12 * 60) if start <= START + n * MINUTE < end and (n != minute or second)]
        return int(judged[inside].sum())

    assert set(observation.windows) == set(rule.windows)
    for name in rule.windows:
        bounds = window_bounds(now, BURN_RATE_WINDOWS[name])
        assert observation.windows[name].judged == expected(*bounds)
        assert minutes.window(name, "judged")[moment] == expected(*bounds)
    assert observation.last_minute.judged == expected(*last_full_minute(now))
    assert minutes.last_minute("judged")[moment] == expected(*last_full_minute(now))


def test_an_instant_belongs_to_the_first_moment_that_is_not_before_it():
    minutes = by_minute((3, 1, 0))
    assert minutes.instant(minutes.moment(START)) == START
    assert minutes.instant(minutes.moment(START + SECOND)) == START + 59 * SECOND
    assert minutes.instant(minutes.moment(START + 59.5 * SECOND)) == START + MINUTE
    assert minutes.end == START + 3 * MINUTE


@pytest.mark.parametrize("start", [START.replace(tzinfo=None), START + SECOND])
def test_minutes_start_on_an_aware_whole_minute(start):
    with pytest.raises(ValueError, match="aware, whole minute"):
        Minutes.of(start, good=[1], bad=[0])


def test_counters_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="as many minutes"):
        replace(by_minute((2, 1, 0)), errors=np.zeros(3, dtype=np.int64))


# -- one rule ------------------------------------------------------------------------------------------


def test_a_full_outage_fires_in_its_third_minute_and_ends_five_minutes_after_it_is_over():
    """Three of five minutes bad is over half, at the third's last second; the good minute after it is the last full one as it ends."""
    minutes = by_minute((60, 10, 0), (20, 0, 10), (60, 10, 0))
    assert told(OutageRule(objective=0.99), minutes) == [
        (START + 62 * MINUTE + 59 * SECOND, Status.FIRING, Reason.OUTAGE),
        (START + 81 * MINUTE, Status.RECOVERING, Reason.OUTAGE_OVER),
        (START + 86 * MINUTE, Status.INACTIVE, Reason.NO_OUTAGE),
    ]


def test_a_rule_is_asked_only_from_since_on_with_what_was_before_in_its_windows():
    minutes = by_minute((60, 0, 10))
    [first, *_] = replay(OutageRule(objective=0.99), minutes, since=START + 30 * MINUTE)
    assert first.at == START + 30 * MINUTE


def test_a_ticket_that_becomes_a_page_is_a_transition():
    """1 bad of 60 in an hour burns 1.7 times what 99 % allows; from the third on somebody is woken."""
    rule = milestone_rules(0.999, 30)["1h/5m"]
    minutes = by_minute((60, 1, 0), (1, 0, 1), (1, 0, 1), (1, 0, 1), (2, 1, 0))
    assert [(one.before, one.status, one.decision.severity) for one in replay(rule, minutes)] == [
        (Status.INACTIVE, Status.FIRING, TICKET),
        (Status.FIRING, Status.FIRING, PAGE),
    ]


OBJECTIVES = st.sampled_from([0.9, 0.95, 0.99, 0.999])
HOLDS = st.sampled_from([timedelta(0), MINUTE, 5 * MINUTE])


@st.composite
def rules_of_some_kind(draw) -> Rule:
    objective, for_, keep = draw(OBJECTIVES), draw(HOLDS), draw(HOLDS)
    window_days = draw(st.sampled_from([7, 28, 30]))
    timing = {"for_": for_, "keep_firing_for": keep, "severity": draw(st.sampled_from([None, PAGE, TICKET]))}
    several = milestone_rules(objective, window_days, **timing)
    overrun = ComponentOverrunRule(objective=objective, **timing)
    timeouts = TimeoutsRule(share_ratio=draw(st.sampled_from([0.01, 0.2])), **timing)
    return draw(st.sampled_from([*several.values(), overrun, timeouts]))


@st.composite
def any_minutes(draw) -> Minutes:
    """Runs of minutes, silent, healthy, near a bound or bad."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rates, shares = [], []
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.sampled_from([1, 2, 5, 7, 30, 61, 400]))
        rates += [draw(st.sampled_from([0, 0.1, 0.5, 5, 100]))] * length
        shares += [draw(st.sampled_from([0, 0.001, 0.01, 0.05, 0.144, 0.5, 0.51, 1]))] * length
    total = rng.poisson(rates)
    judged = rng.binomial(total, draw(st.sampled_from([0.5, 1])))
    bad = rng.binomial(judged, shares)
    over = rng.binomial(bad, 0.9)
    timeouts = rng.binomial(over, 0.2)
    return Minutes(
        START,
        judged=judged,
        good=judged - bad,
        over=over,
        total=total,
        errors=bad - over,
        timeouts=timeouts,
    )


@given(rules_of_some_kind(), any_minutes())
@settings(max_examples=300, deadline=None)
def test_what_is_skipped_changes_nothing(rule, minutes):
    skipping = list(replay(rule, minutes))
    assert skipping == list(replay(rule, minutes, is_every_moment_asked=True))


@given(rules_of_some_kind())
def test_a_rule_needs_no_other_windows_than_it_says(rule):
    for counts in (WindowCounts(), WindowCounts(judged=1000, good=100, over=900, total=1000)):
        minutes = by_minute((10, counts.good, counts.bad))
        list(replay(rule, minutes, is_every_moment_asked=True))  # a window that is missing raises KeyError


def test_a_month_of_a_milestone_takes_a_fraction_of_a_second():
    rng = np.random.default_rng(1)
    judged = rng.poisson(5, 30 * 1440)
    minutes = Minutes.of(START, good=judged - (bad := rng.binomial(judged, 0.0025)), bad=bad)
    began = time.perf_counter()
    assert replay_together(milestone_rules(0.99, 30), minutes) == []
    assert time.perf_counter() - began < 0.5


# -- several rules -------------------------------------------------------------------------------------


def milestone(minutes: Minutes, objective: float = 0.99) -> list[Standing]:
    return replay_together(milestone_rules(objective, 30), minutes)


def test_a_milestone_has_the_highest_severity_of_its_rules():
    standings = milestone(by_minute((3 * 1440, 10, 0), (30, 0, 10), (600, 10, 0)))
    first = standings[0]
    assert (first.severity, first.keys) == (PAGE, ("outage",))
    assert {"1h/5m", "6h/30m", "outage"} <= {key for one in standings for key in one.keys}
    paging = START + 3 * 1440 * MINUTE
    assert severity_at(standings, paging) is None
    assert severity_at(standings, first.at) == PAGE
    assert severity_at(standings, START + (3 * 1440 + 629) * MINUTE) == standings[-1].severity


def test_one_outage_is_one_episode_whichever_rules_see_it():
    [episode] = episodes(milestone(by_minute((3 * 1440, 10, 0), (60, 0, 10), (3 * 1440, 10, 0))))
    began = START + 3 * 1440 * MINUTE
    assert episode.severity == PAGE
    assert episode.started_at == episode.paged_at == began + 2 * MINUTE + 59 * SECOND
    assert episode.keys[0] == "outage"
    assert set(episode.keys) == set(milestone_rules(0.99, 30))
    assert episode.ended_at is not None
    assert episode.ended_at > began + HOUR


def standing(minutes: int, severity: Severity | None, *keys: str) -> Standing:
    return Standing(START + minutes * MINUTE, severity, keys)


def test_what_fires_again_within_half_an_hour_is_the_same_episode():
    first = [standing(0, TICKET, "a"), standing(10, None)]
    again = [*first, standing(40, PAGE, "b"), standing(45, None)]
    later = [*first, standing(41, PAGE, "b"), standing(45, None)]
    assert episodes(again) == [Episode(START, START + 45 * MINUTE, PAGE, START + 40 * MINUTE, ("a", "b"))]
    assert [one.severity for one in episodes(later)] == [TICKET, PAGE]


def test_an_episode_that_became_a_ticket_again_was_a_page_and_is_open_while_it_lasts():
    several = [standing(0, TICKET, "a"), standing(5, PAGE, "a", "b"), standing(9, TICKET, "a")]
    assert episodes(several) == [Episode(START, None, PAGE, START + 5 * MINUTE, ("a", "b"))]


def test_changes_at_one_instant_are_one_standing():
    minutes = by_minute((60, 10, 0), (20, 0, 10))
    several: Mapping[str, Rule] = {"a": OutageRule(objective=0.99), "b": OutageRule(objective=0.9)}
    [one] = together({key: replay(rule, minutes) for key, rule in several.items()})
    assert one.keys == ("a", "b")


def test_tiers_say_which_windows_they_read():
    assert milestone_rules(0.99, 30)["1h/5m"].windows == ("1h", "5m")
    # Late data may open nothing: those with longer short windows ask for the last hour as well.
    tier = milestone_rules(0.99, 30)["3d/6h"]
    assert isinstance(tier, BurnRateRule)
    assert tier.windows == ("3d", "6h", "1h")
