"""What holds an incident's messages back, and who is on call, as it is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from time import process_time
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts import maintenance
from alerts.models import Incident, MaintenanceWindow, Schedule, ScheduleOverride, ScheduleTurn, Silence
from alerts.rotas import Because
from alerts.schedules import on_call
from alerts.silences import Hold, holds
from budgets.models import Component, Feature, Membership, Team
from tests.factories import NOW, make_feature, make_team
from tests.people import make_person

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_incident(feature: Feature, **overrides: Any) -> Incident:
    values = {
        "environment": "production",
        "milestone": "first_token",
        "severity": "page",
        "rule": "burn_rate",
        "summary": "burns",
        "opened_at": NOW,
    }
    return Incident.objects.create(feature=feature, **{**values, **overrides})


def make_silence(team: Team, *matchers: tuple[str, str, str], **overrides: Any) -> Silence:
    values = {
        "matchers": [dict(zip(("name", "operator", "value"), one, strict=True)) for one in matchers]
        or [{"name": "feature", "operator": "~", "value": "*"}],
        "reason": "Load test",
        "author": "ada@example.com",
        "starts_at": NOW - HOUR,
        "ends_at": NOW + HOUR,
    }
    return Silence.objects.create(team=team, **{**values, **overrides})


def make_window(team: Team, **overrides: Any) -> MaintenanceWindow:
    """Every night from 20:00 to 21:00, UTC; it is open at NOW."""
    values = {
        "name": "Nightly rebuild",
        "matchers": [],
        "time_zone": "UTC",
        "starts_on": date(2026, 11, 1),
        "starts_at": time(20),
        "duration_minutes": 60,
        "recurrence": "FREQ=DAILY",
        "author": "ada@example.com",
    }
    return MaintenanceWindow.objects.create(team=team, **{**values, **overrides})


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def incident(team: Team) -> Incident:
    return make_incident(make_feature(team=team))


def test_a_silence_in_force_holds_what_its_matchers_fit(team: Team, incident: Incident) -> None:
    silence = make_silence(team, ("severity", "=", "page"))
    assert holds([incident], now=NOW) == {
        incident.pk: Hold("silence “Load test” of ada@example.com", silence.ends_at)
    }


def test_a_silence_holds_nothing_before_its_start_and_from_its_end(team: Team, incident: Incident) -> None:
    silence = make_silence(team)
    assert not holds([incident], now=silence.starts_at - timedelta(microseconds=1))
    assert holds([incident], now=silence.starts_at)
    assert not holds([incident], now=silence.ends_at)


def test_a_silence_holds_neither_what_it_does_not_fit_nor_another_teams(incident: Incident) -> None:
    make_silence(incident.feature.team, ("severity", "=", "ticket"))
    make_silence(make_team())
    make_window(make_team())
    assert not holds([incident], now=NOW)


def test_every_fact_of_an_incident_can_be_matched(team: Team) -> None:
    feature = make_feature(team=team, slug="support-chat")
    of_milestone = make_incident(feature, severity="ticket")
    component = Component.objects.get(feature=feature, name="tools")
    of_component = make_incident(feature, milestone=None, component=component, environment="staging")
    for fact, expected in [
        (("feature", "=", "support-chat"), {of_milestone, of_component}),
        (("milestone", "=", "first_token"), {of_milestone}),
        (("component", "=", "tools"), {of_component}),
        (("environment", "=", "staging"), {of_component}),
        (("severity", "=", "ticket"), {of_milestone}),
    ]:
        silence = make_silence(team, fact)
        assert holds([of_milestone, of_component], now=NOW).keys() == {one.pk for one in expected}
        silence.delete()


def test_of_several_holds_the_one_that_ends_last_counts(team: Team, incident: Incident) -> None:
    make_silence(team, ends_at=NOW + timedelta(minutes=5))
    make_window(team)
    last = make_silence(team, reason="Long", ends_at=NOW + 3 * HOUR)
    make_silence(team, ends_at=NOW + 2 * HOUR)
    assert holds([incident], now=NOW)[incident.pk] == Hold("silence “Long” of ada@example.com", last.ends_at)


def test_an_open_maintenance_window_holds_until_it_closes(team: Team, incident: Incident) -> None:
    make_window(team)
    assert holds([incident], now=NOW) == {
        incident.pk: Hold("maintenance window “Nightly rebuild”", at("2026-11-21T21:00"))
    }
    assert not holds([incident], now=at("2026-11-21T21:00"))
    assert not holds([incident], now=at("2026-11-21T19:59:59"))


def test_a_window_that_is_switched_off_or_fits_something_else_holds_nothing(
    team: Team, incident: Incident
) -> None:
    make_window(team, is_enabled=False)
    make_window(team, name="b", matchers=[{"name": "environment", "operator": "=", "value": "staging"}])
    assert not holds([incident], now=NOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recurrence": "FREQ=HOURLY"}, "FREQ must be one of"),
        ({"time_zone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
        ({"matchers": [{"name": "feature"}]}, '[0] is not {"name"'),
    ],
)
def test_a_window_that_cannot_be_read_is_closed_and_the_others_hold_all_the_same(
    team: Team, incident: Incident, caplog: pytest.LogCaptureFixture, change: dict[str, Any], said: str
) -> None:
    make_window(team, name="Broken", **change)
    assert not holds([incident], now=NOW)
    (record,) = caplog.records
    assert (record.levelname, "(Broken) counts as closed" in record.getMessage()) == ("ERROR", True)
    assert said in record.getMessage()
    make_window(team)
    assert holds([incident], now=NOW)[incident.pk].text == "maintenance window “Nightly rebuild”"


def test_what_cannot_be_read_is_logged_once_however_often_it_is_looked_at(
    team: Team, incident: Incident, caplog: pytest.LogCaptureFixture
) -> None:
    window = make_window(team, recurrence="FREQ=HOURLY")
    make_silence(team, matchers=["feature = support-chat"])
    schedule = make_schedule(team, make_person("ada@example.com", team=team), time_zone="Mars/Olympus")
    for _ in range(3):
        holds([incident], now=NOW)
        on_call([schedule.pk], at=NOW)
    assert len(caplog.records) == 3
    # Another trouble is news, and so is one that comes back.
    for recurrence, said in [("FREQ=MINUTELY", 4), ("FREQ=DAILY", 4), ("FREQ=MINUTELY", 5)]:
        MaintenanceWindow.objects.filter(pk=window.pk).update(recurrence=recurrence)
        holds([incident], now=NOW)
        assert len(caplog.records) == said


def test_a_hundred_windows_that_count_from_long_ago_are_looked_at_at_once(
    team: Team, incident: Incident
) -> None:
    """They took 16 s, within the transactions that open incidents."""
    for number in range(100):
        make_window(
            team,
            name=str(number),
            starts_on=date(1970, 1, 1) + timedelta(days=number),
            recurrence="FREQ=DAILY;COUNT=1000;BYMONTH=2;BYMONTHDAY=29",
        )
    for most_seconds in (1.0, 0.2):
        began = process_time()
        assert not holds([incident], now=NOW)
        assert process_time() - began < most_seconds


def test_a_silence_that_cannot_be_read_holds_nothing_back(
    team: Team, incident: Incident, caplog: pytest.LogCaptureFixture
) -> None:
    make_silence(team, matchers=["feature = support-chat"])
    assert not holds([incident], now=NOW)
    assert "holds nothing back: [0] is not" in caplog.text


def test_a_hold_is_never_longer_than_a_message_keeps(team: Team, incident: Incident) -> None:
    make_silence(team, reason="A long story. " * 400)
    text = holds([incident], now=NOW)[incident.pk].text
    assert len(text) == 300
    assert text.endswith("” of ada@example.com")


def test_many_incidents_and_holds_take_as_many_queries_as_one(team: Team) -> None:
    features = [make_feature(team=team), make_feature(team=make_team())]
    for feature in features:
        for environment in ("production", "staging"):
            make_incident(feature, environment=environment)
        make_silence(feature.team)
        make_window(feature.team)
    incidents = list(Incident.objects.select_related("feature", "component"))
    with CaptureQueriesContext(connection) as queries:
        assert len(holds(incidents, now=NOW)) == 4
    assert len(queries) == 2


# Maintenance windows


def starts(window: MaintenanceWindow, start: str, end: str) -> list[str]:
    found = maintenance.occurrences(window, start=at(start), end=at(end))
    return [f"{one.starts_at:%m-%d %H:%M}" for one in found]


@pytest.mark.parametrize(
    ("zone", "starts_at", "start", "end", "expected"),
    [
        # 02:00 stays 02:00: 01:00 UTC in winter, 00:00 in summer.
        (
            "Europe/Berlin",
            time(2),
            "2026-03-27",
            "2026-03-31",
            ["03-27 01:00", "03-28 01:00", "03-29 01:00", "03-30 00:00"],
        ),
        # 02:30 does not exist on 29 March: it begins when it would have, at 03:30 by the new time.
        (
            "Europe/Berlin",
            time(2, 30),
            "2026-03-28",
            "2026-03-31",
            ["03-28 01:30", "03-29 01:30", "03-30 00:30"],
        ),
        # 02:30 comes twice on 25 October: the first.
        (
            "Europe/Berlin",
            time(2, 30),
            "2026-10-24",
            "2026-10-27",
            ["10-24 00:30", "10-25 00:30", "10-26 01:30"],
        ),
        # 02:00 to 02:30 is skipped on 4 October.
        (
            "Australia/Lord_Howe",
            time(2, 15),
            "2026-10-02T12:00",
            "2026-10-05T12:00",
            ["10-02 15:45", "10-03 15:45", "10-04 15:15"],
        ),
        # 8 March: 02:00 does not exist in New York.
        (
            "America/New_York",
            time(2),
            "2026-03-07",
            "2026-03-10",
            ["03-07 07:00", "03-08 07:00", "03-09 06:00"],
        ),
    ],
)
def test_a_window_begins_at_its_time_of_day_when_clocks_change(
    team: Team, zone: str, starts_at: time, start: str, end: str, expected: list[str]
) -> None:
    window = make_window(team, time_zone=zone, starts_at=starts_at, starts_on=date(2026, 1, 1))
    assert starts(window, start, end) == expected


def test_a_window_lasts_as_long_as_it_says_also_when_clocks_change(team: Team) -> None:
    """From 01:00 for four hours: to 06:00 by the new time on 29 March."""
    window = make_window(
        team, time_zone="Europe/Berlin", starts_on=date(2026, 3, 29), starts_at=time(1), duration_minutes=240
    )
    found = maintenance.open_at(window, at("2026-03-29T03:59"))
    assert found == maintenance.Occurrence(at("2026-03-29T00:00"), at("2026-03-29T04:00"))
    assert maintenance.open_at(window, at("2026-03-29T04:00")) is None


def test_of_occurrences_that_overlap_the_one_that_ends_last_is_open(team: Team) -> None:
    window = make_window(team, duration_minutes=3 * 24 * 60)
    assert maintenance.open_at(window, NOW) == maintenance.Occurrence(
        at("2026-11-21T20:00"), at("2026-11-24T20:00")
    )


def test_a_window_without_a_recurrence_comes_once(team: Team) -> None:
    window = make_window(team, recurrence="", starts_on=date(2026, 11, 21))
    assert maintenance.open_at(window, NOW)
    assert maintenance.next_occurrences(window, now=NOW + HOUR) == []


def test_until_an_instant_ends_a_window_within_the_day(team: Team) -> None:
    window = make_window(team, recurrence="FREQ=DAILY;UNTIL=20261121T195959Z")
    assert starts(window, "2026-11-20", "2026-11-25") == ["11-20 20:00"]


def test_the_next_occurrences_begin_with_the_one_that_is_open(team: Team) -> None:
    window = make_window(team, recurrence="FREQ=WEEKLY;BYDAY=SA")
    found = maintenance.next_occurrences(window, now=NOW)
    assert [f"{one.starts_at:%m-%d}" for one in found] == ["11-21", "11-28", "12-05"]


# Who is on call


def make_schedule(team: Team, *people: Any, **overrides: Any) -> Schedule:
    """Weekly turns from Monday 2 November, handing over at 09:00 in Berlin."""
    values = {
        "name": "Primary",
        "time_zone": "Europe/Berlin",
        "starts_on": date(2026, 11, 2),
        "hands_over_at": time(9),
    }
    schedule = Schedule.objects.create(team=team, **{**values, **overrides})
    for position, person in enumerate(people):
        ScheduleTurn.objects.create(schedule=schedule, position=position, person=person)
    return schedule


def test_who_is_on_call_is_told_with_the_bounds_of_the_shift(team: Team) -> None:
    ada, bob = (make_person(f"{name}@example.com", team=team) for name in ("ada", "bob"))
    schedule = make_schedule(team, ada, bob)
    shift = on_call([schedule.pk], at=NOW)[schedule.pk]
    assert (shift.person, shift.because) == (ada, Because.TURN)
    assert (shift.starts_at, shift.ends_at) == (at("2026-11-16T08:00"), at("2026-11-23T08:00"))
    assert on_call([schedule.pk], at=shift.ends_at)[schedule.pk].person == bob


def test_an_override_takes_a_shift(team: Team) -> None:
    ada, bob = (make_person(f"{name}@example.com", team=team) for name in ("ada", "bob"))
    schedule = make_schedule(team, ada)
    ScheduleOverride.objects.create(
        schedule=schedule, person=bob, starts_at=NOW - HOUR, ends_at=NOW + HOUR, author="a test"
    )
    shift = on_call([schedule.pk], at=NOW)[schedule.pk]
    assert (shift.person, shift.because, shift.ends_at) == (bob, Because.OVERRIDE, NOW + HOUR)


def test_who_left_the_team_or_whose_account_is_closed_is_on_call_no_more(team: Team) -> None:
    ada, bob = (make_person(f"{name}@example.com", team=team) for name in ("ada", "bob"))
    schedules = [make_schedule(team, one, name=one.email) for one in (ada, bob)]
    Membership.objects.get(user=ada).delete()
    bob.is_active = False
    bob.save()
    found = on_call([one.pk for one in schedules], at=NOW)
    assert [(found[one.pk].person, found[one.pk].because) for one in schedules] == [
        (None, Because.LEFT_TEAM),
        (None, Because.ACCOUNT_CLOSED),
    ]


def test_a_member_of_another_team_alone_is_not_on_call(team: Team) -> None:
    outsider = make_person("out@example.com", team=make_team())
    schedule = make_schedule(team, outsider)
    assert on_call([schedule.pk], at=NOW)[schedule.pk].because == Because.LEFT_TEAM


@pytest.mark.parametrize(
    "change", [{"time_zone": "Mars/Olympus"}, {"hours": [{"days": ["mon"]}]}, {"hours": 7}]
)
def test_by_a_schedule_that_cannot_be_read_nobody_is_on_call_but_by_an_override(
    team: Team, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    ada = make_person("ada@example.com", team=team)
    broken, sound = make_schedule(team, ada, name="broken", **change), make_schedule(team, ada)
    found = on_call([broken.pk, sound.pk], at=NOW)
    assert (found[broken.pk].person, found[broken.pk].because) == (None, Because.UNREADABLE)
    assert found[sound.pk].person == ada
    assert f"by schedule {broken.pk}" in caplog.text
    bounds = {"starts_at": NOW - HOUR, "ends_at": NOW + HOUR}
    ScheduleOverride.objects.create(schedule=broken, person=ada, author="a test", **bounds)
    assert on_call([broken.pk], at=NOW)[broken.pk].person == ada


def test_hours_are_read_as_they_are_stored(team: Team) -> None:
    """NOW is a Saturday, 21:00 in Berlin."""
    ada = make_person("ada@example.com", team=team)
    hours = [{"days": ["sat"], "from": "21:00", "to": "24:00"}]
    schedule = make_schedule(team, ada, hours=hours)
    shift = on_call([schedule.pk], at=NOW)[schedule.pk]
    assert (shift.person, shift.starts_at, shift.ends_at) == (
        ada,
        at("2026-11-21T20:00"),
        at("2026-11-21T23:00"),
    )


def test_a_schedule_that_is_not_there_is_left_out(team: Team) -> None:
    assert on_call([12345], at=NOW) == {}


def test_many_schedules_take_as_many_queries_as_one(team: Team) -> None:
    ada = make_person("ada@example.com", team=team)
    schedules = [make_schedule(team, ada, name=str(number)) for number in range(5)]
    with CaptureQueriesContext(connection) as queries:
        assert len(on_call([one.pk for one in schedules], at=NOW)) == 5
    assert len(queries) == 4
