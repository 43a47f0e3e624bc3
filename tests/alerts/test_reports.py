"""What a report says is what the rollups, incidents and versions of its period add up to, by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts.models import IncidentEvent
from alerts.report_periods import Kind, Period, UnknownPeriod, containing, last_finished, last_mailed
from alerts.report_words import notes, sentences
from alerts.reports import Cause, Report, report
from budgets.burn_rates import State
from budgets.models import Component, DayRollup, Feature, Team
from tests.alerts.reported import incident, rolled_up, utc
from tests.factories import make_feature, make_team, redeclare

pytestmark = pytest.mark.django_db

NOW = utc("2026-11-23 07:00")
MADE = utc("2026-10-01 00:00")
WEEK = Period(Kind.WEEK, date(2026, 11, 16), "UTC")
HOUR = timedelta(hours=1)


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    """Support chat: first token within 3 s, 99 %; made before the period."""
    return make_feature(team=team, slug="support-chat", now=MADE)


def made(team: Team, period: Period = WEEK, **overrides: Any) -> Report:
    return report(team=team, **{"period": period, "environment": "production", "now": NOW, **overrides})


def test_a_promise_is_counted_against_its_objective_and_the_week_before(team: Team, feature: Feature) -> None:
    """970 + 1000 of 2000 were good: 98.5 %, where 1 % of 2000, which is 20, might miss, and 30 did. The week before
    it was 99.5 %."""
    rolled_up(feature, {utc("2026-11-16 00:00"): (1000, 970), utc("2026-11-22 23:00"): (1000, 1000)})
    rolled_up(feature, {utc("2026-11-15 23:00"): (400, 398)})
    rolled_up(feature, {utc("2026-11-23 00:00"): (500, 0)})  # the week after

    (promise,) = made(team).features[0].promises

    assert (promise.tally.judged, promise.tally.bad) == (2000, 30)
    assert promise.tally.achieved_ratio == 0.985
    assert promise.tally.used_ratio == 1.5
    assert promise.tally.is_kept is False
    assert promise.change_points == pytest.approx(-1.0)
    assert not promise.is_change_few


def test_a_promise_is_kept_exactly_up_to_its_error_budget(team: Team, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 990)})

    one = made(team).features[0]

    assert one.promises[0].tally.used_ratio == 1.0
    assert one.is_kept is True


def test_few_requests_are_flagged_in_either_week(team: Team, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 1000), utc("2026-11-10 10:00"): (99, 99)})

    (promise,) = made(team).features[0].promises

    assert (promise.tally.is_few, promise.is_change_few) == (False, True)


def test_each_hour_counts_against_the_objective_that_held_in_it(team: Team, feature: Feature) -> None:
    """1000 at 99 % may miss 10, 1000 at 99.9 % may miss 1: 11 in all, of which 9 did."""
    budget = {"milestone": "first_token", "budget_ms": 3000, "objective": 0.999, "window_days": 28}
    redeclare(feature, now=utc("2026-11-18 11:58:30"), latency_budgets=[budget])  # in force from 12:00
    rolled_up(feature, {utc("2026-11-18 11:00"): (1000, 991), utc("2026-11-18 12:00"): (1000, 1000)})

    found = made(team)
    (promise,) = found.features[0].promises

    assert promise.tally.allowed_bad == 11
    assert promise.tally.is_kept is True
    assert [str(promise.objective), *map(str, promise.earlier_objectives)] == ["0.999000", "0.990000"]
    (change,) = found.changes
    assert change.at == utc("2026-11-18 12:00")
    assert change.author == "a test"
    assert ("objective", "99\N{NO-BREAK SPACE}%", "99.9\N{NO-BREAK SPACE}%") in [
        (one.label, one.before, one.after) for one in change.differences
    ]


def test_incidents_are_clipped_to_the_period_and_overlapping_ones_counted_once(
    team: Team, feature: Feature
) -> None:
    """From the week before 30 minutes reach into this one; 10:00–12:00 and 11:00–13:00 are three hours; 15 minutes of
    the last one lie in this week."""
    tools = Component.objects.get(feature=feature, name="tools")
    incident(feature, utc("2026-11-15 23:30"), HOUR)
    incident(feature, utc("2026-11-17 10:00"), 2 * HOUR)
    incident(feature, utc("2026-11-17 11:00"), 2 * HOUR, milestone=None, component=tools, severity="ticket")
    incident(feature, utc("2026-11-22 23:45"), None)
    incident(feature, utc("2026-11-18 10:00"), HOUR, environment="staging")
    incident(feature, utc("2026-11-14 10:00"), HOUR)

    found = made(team)

    assert (found.incidents, found.incident_time) == (4, timedelta(minutes=30 + 180 + 15))
    (promise,) = found.features[0].promises
    assert (promise.incidents, promise.incident_time) == (4, timedelta(minutes=225))
    days = [one.state for one in found.features[0].days]
    assert days[0] == State.AT_RISK
    assert days[2] == State.NO_DATA


def test_an_incident_that_came_back_was_over_in_between(team: Team, feature: Feature) -> None:
    found = incident(
        feature, utc("2026-11-17 10:00"), HOUR, reopenings=1, reopened_at=utc("2026-11-17 10:45")
    )
    for kind, at in (
        ("opened", "10:00"),
        ("resolved", "10:20"),
        ("reopened", "10:45"),
        ("resolved", "11:00"),
    ):
        IncidentEvent.objects.create(incident=found, kind=kind, at=utc(f"2026-11-17 {at}"))

    assert made(team).incident_time == timedelta(minutes=35)


def test_an_incident_that_another_took_over_lasts_with_it_and_is_not_counted(
    team: Team, feature: Feature
) -> None:
    tools = Component.objects.get(feature=feature, name="tools")
    into = incident(feature, utc("2026-11-17 10:30"), HOUR)
    incident(feature, utc("2026-11-17 10:00"), HOUR, milestone=None, component=tools, merged_into=into)

    found = made(team)

    assert (found.incidents, found.incident_time) == (1, timedelta(minutes=90))


def attribution(over: int, **excess_ms: float) -> dict[str, Any]:
    shares = [{"component": name, "excess_ms": ms} for name, ms in excess_ms.items()]
    return {"by": "requests", "over": over, "components": shares}


def test_the_main_cause_is_the_component_with_most_excess_over_the_incidents(
    team: Team, feature: Feature
) -> None:
    """Tools cost 10 × 2000 ms, retrieval 50 × 300 + 10 × 100 ms: 20 s against 16 s."""
    incident(feature, utc("2026-11-17 10:00"), HOUR, attribution=attribution(10, tools=2000, retrieval=100))
    incident(feature, utc("2026-11-18 10:00"), HOUR, attribution=attribution(50, tools=0, retrieval=300))

    assert made(team).features[0].promises[0].cause == Cause("tools", "requests")


def test_without_requests_that_tell_the_main_cause_is_what_incidents_name_for_longest(
    team: Team, feature: Feature
) -> None:
    tools, model = {"component": "tools"}, {"component": "model"}
    incident(feature, utc("2026-11-17 10:00"), HOUR, cause=tools, attribution={"by": "allocations"})
    incident(feature, utc("2026-11-18 10:00"), 3 * HOUR, cause=model)

    assert made(team).features[0].promises[0].cause == Cause("model", "incidents")


def test_without_incidents_the_main_cause_is_the_component_most_over_its_allocation(
    team: Team, feature: Feature
) -> None:
    at = utc("2026-11-17 10:00")
    rolled_up(feature, {at: (1000, 980)}, component="tools")
    rolled_up(feature, {at: (1000, 970)}, component="retrieval")
    rolled_up(feature, {at: (1000, 995)}, component="model")

    assert made(team).features[0].promises[0].cause == Cause("retrieval", "allocation", 0.03)


def test_no_component_is_a_cause_where_none_breached_its_allocation(team: Team, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 995)}, component="model")

    assert made(team).features[0].promises[0].cause is None


def test_each_day_has_the_state_of_its_worst_promise(team: Team, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-16 23:00"): (100, 98), utc("2026-11-17 00:00"): (100, 99)})
    incident(feature, utc("2026-11-18 10:00"), HOUR)

    days = made(team, now=utc("2026-11-20 12:00")).features[0].days

    assert [one.state for one in days] == [
        State.BREACHED,
        State.OK,
        State.AT_RISK,
        State.NO_DATA,
        State.NO_DATA,
        None,
        None,
    ]
    assert days[0].tally.bad == 2


def test_the_week_in_which_clocks_are_put_back_has_a_day_of_25_hours(team: Team, feature: Feature) -> None:
    """In Berlin 25 October 2026 lasts from 22:00 UTC to 23:00 UTC of the next day."""
    week = Period(Kind.WEEK, date(2026, 10, 19), "Europe/Berlin")
    rolled_up(
        feature,
        {
            utc("2026-10-18 21:00"): (1, 0),  # Sunday the 18th
            utc("2026-10-18 22:00"): (10, 10),
            utc("2026-10-24 21:00"): (20, 20),  # Saturday, 23:00
            utc("2026-10-24 22:00"): (30, 30),
            utc("2026-10-25 22:00"): (40, 40),  # Sunday, the 25th hour
            utc("2026-10-25 23:00"): (1, 0),  # Monday
        },
    )

    found = made(team, week)

    one = found.features[0]
    assert [day.tally.judged for day in one.days] == [10, 0, 0, 0, 0, 20, 70]
    assert one.promises[0].tally.bad == 0
    assert not found.is_moved


def test_the_week_in_which_clocks_are_put_forward_has_a_day_of_23_hours(team: Team) -> None:
    feature = make_feature(team=team, now=utc("2026-03-01"))
    week = Period(Kind.WEEK, date(2026, 3, 23), "Europe/Berlin")
    rolled_up(
        feature,
        {utc("2026-03-28 23:00"): (10, 10), utc("2026-03-29 21:00"): (5, 5), utc("2026-03-29 22:00"): (7, 0)},
    )

    assert [one.tally.judged for one in made(team, week).features[0].days] == [0, 0, 0, 0, 0, 0, 15]


def test_a_day_that_begins_between_two_hours_begins_with_the_hour_of_its_midnight(
    team: Team, feature: Feature
) -> None:
    week = Period(Kind.WEEK, date(2026, 11, 16), "Asia/Kolkata")  # midnight is 18:30 UTC
    rolled_up(feature, {utc("2026-11-15 17:00"): (1, 0), utc("2026-11-15 18:00"): (10, 10)})

    found = made(team, week)

    assert found.features[0].promises[0].tally.judged == 10
    assert any("midnight lies between two hours" in note for note in notes(found))


def test_a_month_whose_hours_are_kept_no_more_is_read_from_days(team: Team, settings: Any) -> None:
    settings.HOUR_RETENTION_DAYS = 30
    feature = make_feature(team=team, now=utc("2026-08-01"))
    rolled_up(
        feature,
        {
            utc("2026-09-30 00:00"): (1000, 995),
            utc("2026-10-01 00:00"): (1, 0),
            utc("2026-08-31 00:00"): (500, 500),
        },
        model=DayRollup,
    )

    found = made(team, Period(Kind.MONTH, date(2026, 9, 1), "Europe/Berlin"))

    (promise,) = found.features[0].promises
    assert (promise.tally.judged, promise.tally.bad, promise.before.judged) == (1000, 5, 500)
    assert found.features[0].days[29].tally.judged == 1000
    assert any("each day is UTC's" in note for note in notes(found))


def test_only_features_that_were_there_in_the_period_are_in_its_report(team: Team, feature: Feature) -> None:
    make_feature(team=team, slug="younger", now=utc("2026-11-23 01:00"))
    fed = make_feature(team=team, slug="fed", name="Fed with history", now=utc("2026-11-23 01:00"))
    rolled_up(fed, {utc("2026-11-17 10:00"): (100, 100)})
    gone = make_feature(team=team, slug="gone", now=MADE)
    Feature.objects.filter(pk=gone.pk).update(archived_at=utc("2026-11-15 10:00"))
    late = make_feature(team=team, slug="late", name="Archived on Friday", now=MADE)
    Feature.objects.filter(pk=late.pk).update(archived_at=utc("2026-11-20 10:00"))
    make_feature(slug="elsewhere", now=MADE)

    assert {one.feature.slug for one in made(team).features} == {"support-chat", "fed", "late"}


def test_the_paragraph_says_who_kept_their_promise_and_why_others_did_not(
    team: Team, feature: Feature
) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 982), utc("2026-11-10 10:00"): (1000, 995)})
    incident(feature, utc("2026-11-17 10:00"), timedelta(minutes=42), cause={"component": "tools"})
    search = make_feature(team=team, slug="search", name="Search", now=MADE)
    rolled_up(search, {utc("2026-11-17 10:00"): (1000, 992)})
    rare = make_feature(team=team, slug="rare", name="Rare", now=MADE)
    rolled_up(rare, {utc("2026-11-17 10:00"): (12, 12)})
    make_feature(team=team, slug="silent", name="Silent", now=MADE)

    text = " ".join(sentences(made(team))).replace("\N{NO-BREAK SPACE}", " ")

    assert text == (
        "Last week (16–22 November 2026) 2 of 3 features kept their promise. Silent was not measured against a latency "
        "budget. "
        "Support chat gave its first token within 3 s in 98.2 % of requests, where 99 % was promised (1.3 percentage "
        "points less than the week before); the main cause was tools. "
        "Kept with little to spare: Search (80.0 % of its error budget used). "
        "Few requests were judged of Rare (12): its figures say little. "
        "There was 1 incident, 42 min."
    )


def test_the_paragraph_says_that_all_is_well(team: Team, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 1000)})

    assert sentences(made(team)) == [
        "Last week (16–22 November 2026) Support chat kept its promise.",
        "There was no incident.",
    ]


def test_as_many_queries_for_thirty_features_as_for_two(team: Team) -> None:
    def fill(numbers: range) -> int:
        for n in numbers:
            one = make_feature(team=team, slug=f"feature-{n}", now=MADE)
            rolled_up(one, {utc("2026-11-17 10:00"): (1000, 900)})
            rolled_up(one, {utc("2026-11-17 10:00"): (1000, 900)}, component="tools")
            incident(one, utc("2026-11-17 10:00"), HOUR, reopenings=1, reopened_at=utc("2026-11-17 10:30"))
            redeclare(one, now=utc("2026-11-18 10:00"), latency_budgets=[])
        with CaptureQueriesContext(
            connection,
        ) as queries:
            made(team)
        return len(queries)

    assert fill(range(2)) == fill(range(2, 30))


def test_the_last_finished_week_and_month_are_by_the_clock_of_the_zone() -> None:
    at = utc("2026-11-30 23:30")  # in Berlin it is 1 December, 00:30

    assert last_finished(Kind.MONTH, at, "UTC").first_day == date(2026, 10, 1)
    assert last_finished(Kind.MONTH, at, "Europe/Berlin").first_day == date(2026, 11, 1)
    assert last_finished(Kind.WEEK, at, "UTC").first_day == date(2026, 11, 23)


def test_a_report_is_due_at_seven_on_the_day_after() -> None:
    assert last_mailed(Kind.WEEK, utc("2026-11-23 05:59"), "Europe/Berlin").first_day == date(2026, 11, 9)
    assert last_mailed(Kind.WEEK, utc("2026-11-23 06:00"), "Europe/Berlin").first_day == date(2026, 11, 16)


def test_years_that_nobody_means_are_refused() -> None:
    for day in (date(1, 1, 1), date(9999, 12, 31)):
        with pytest.raises(UnknownPeriod):
            containing(Kind.WEEK, day, "UTC")
