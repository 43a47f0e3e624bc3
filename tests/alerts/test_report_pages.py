"""The page of a report and its CSV, as people and spreadsheets read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from budgets.models import Feature, Membership, Team
from tests.alerts.reported import incident, rolled_up, utc
from tests.budgets.test_pages import page, signed_in, text_of
from tests.factories import make_feature, make_team, redeclare
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "on_monday")]

NOW = utc("2026-11-23 07:00")
MADE = utc("2026-10-01 00:00")
HOSTILE = '<img src=x onerror="alert(1)">{{ 7*7 }}'
ADDRESS = "/teams/assistants/report/"
WEEK = f"{ADDRESS}?period=week&start=2026-11-16&zone=UTC"
CSV = "/teams/assistants/report.csv?period=week&start=2026-11-16&zone=UTC"


@pytest.fixture
def on_monday() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat", now=MADE)


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("viewer@example.com", team=team, role=Membership.Role.VIEWER))


def read(client: Client, address: str = WEEK) -> str:
    return text_of(page(client, address)).replace("\N{NO-BREAK SPACE}", " ")


def table(client: Client, address: str = CSV) -> list[dict[str, str]]:
    response = client.get(address)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def test_an_address_that_says_less_leads_to_one_that_says_all_of_it(viewer: Client, team: Team) -> None:
    leads_to = {
        ADDRESS: "?period=week&start=2026-11-16&zone=UTC",
        f"{ADDRESS}?period=month&zone=Asia/Tokyo": "?period=month&start=2026-10-01&zone=Asia%2FTokyo",
        f"{ADDRESS}?start=2026-11-19&environment=staging": "?period=week&start=2026-11-16&environment=staging&zone=UTC",
    }

    assert {address: viewer.get(address)["Location"] for address in leads_to} == {
        address: f"{ADDRESS}{query}" for address, query in leads_to.items()
    }


def test_without_a_zone_the_report_is_by_the_clock_of_the_team(viewer: Client, team: Team) -> None:
    Team.objects.filter(pk=team.pk).update(time_zone="Asia/Tokyo")

    assert viewer.get(ADDRESS)["Location"] == f"{ADDRESS}?period=week&start=2026-11-16&zone=Asia%2FTokyo"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("period=year", "period is week or month"),
        ("start=yesterday", "start is a day such as 2026-11-23"),
        ("start=0001-01-01", "start lies too far away"),
        ("start=9999-12-31&period=month", "start lies too far away"),
        ("zone=Mars/Base", "zone is the IANA name of a time zone"),
        (f"zone={HOSTILE}", "&lt;img"),
    ],
)
def test_an_address_that_cannot_be_read_says_so_and_leads_on(
    viewer: Client, team: Team, query: str, said: str
) -> None:
    for address in (f"{ADDRESS}?{query}", f"/teams/assistants/report.csv?{query}"):
        response = viewer.get(address)
        assert response.status_code == 400
        body = response.content.decode()
        assert said in body
        assert f'href="{ADDRESS}"' in body
        assert "<img" not in body


@pytest.mark.parametrize("start", ["1971-01-04", "2998-12-31", "2027-01-01"])
def test_the_ends_of_the_calendar_and_what_is_yet_to_come_have_a_page(
    viewer: Client, feature: Feature, start: str
) -> None:
    for period in ("week", "month"):
        response = viewer.get(f"{ADDRESS}?period={period}&start={start}&zone=Pacific/Apia", follow=True)
        assert response.status_code == 200
    assert ("is yet to come" in response.content.decode()) is (start > "2026-11-23")


def test_the_page_says_in_words_and_figures_what_became_of_each_promise(
    viewer: Client, team: Team, feature: Feature
) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 982), utc("2026-11-10 10:00"): (1000, 995)})
    incident(feature, utc("2026-11-17 10:00"), timedelta(minutes=42), cause={"component": "tools"})
    redeclare(
        feature,
        now=utc("2026-11-18 11:58:30"),
        latency_budgets=[
            {
                "milestone": "first_token",
                "budget_ms": 2500,
                "objective": 0.99,
                "window_days": 28,
                "note": "Users wait less patiently than we thought.",
            }
        ],
    )

    text = read(viewer)

    assert "Weekly report, week 47, 16–22 November 2026" in text
    assert "Support chat did not keep its promise" in text
    assert "99 % within 2.5 s" in text
    assert "98.2 %" in text
    assert "of 1,000" in text
    assert "−1.30" in text
    assert "180 %" in text
    assert "42 min" in text
    assert "tools named by incidents for longest" in text
    assert "Tuesday 17 November: Missed, 98.2 % of 1,000" in text
    assert "Users wait less patiently than we thought." in text
    assert "a test, in force from Wed 18 Nov, 12:00 UTC" in text
    assert "3000 ms → 2500 ms" in text


def test_the_page_leads_to_the_weeks_beside_it_and_to_the_month(viewer: Client, feature: Feature) -> None:
    body = page(viewer, WEEK).replace("&amp;", "&")

    for start, period in (("2026-11-09", "week"), ("2026-11-23", "week"), ("2026-11-01", "month")):
        assert f'"{ADDRESS}?period={period}&start={start}&zone=UTC"' in body
    # The running week has none after it.
    running = page(viewer, WEEK.replace("2026-11-16", "2026-11-23"))
    assert "so far" in running
    assert 'rel="next"' not in running


def test_a_team_without_features_is_told_what_to_do(viewer: Client, team: Team) -> None:
    editor = signed_in(make_person("editor@example.com", team=team, role=Membership.Role.EDITOR))

    assert "There was no feature to report on" in read(viewer)
    assert 'href="/features/new/"' not in page(viewer, WEEK)
    assert 'href="/features/new/"' in page(editor, WEEK)


def test_a_week_in_which_nothing_was_measured_is_neither_kept_nor_missed(
    viewer: Client, feature: Feature
) -> None:
    text = read(viewer)

    assert "nothing was measured against a latency budget" in text
    assert "Kept" not in text
    assert "Missed" not in text


def test_a_week_in_which_all_was_well_says_so(viewer: Client, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 1000)})

    assert "Support chat kept its promise. There was no incident." in read(viewer)


def test_hostile_names_and_notes_are_shown_as_text(viewer: Client, team: Team) -> None:
    feature = make_feature(
        team=team,
        name=HOSTILE,
        now=utc("2026-11-17 09:00"),
        latency_budgets=[
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "note": HOSTILE,
            }
        ],
    )
    rolled_up(feature, {utc("2026-11-17 10:00"): (1000, 0)})

    body = page(viewer, WEEK)

    assert "<img" not in body
    assert "{{ 7*7 }}" in body
    assert body.count("&lt;img src=x onerror") >= 4


def test_the_table_comes_as_csv_in_full_precision(viewer: Client, feature: Feature) -> None:
    rolled_up(feature, {utc("2026-11-17 10:00"): (3000, 2998), utc("2026-11-10 10:00"): (80, 80)})
    incident(feature, utc("2026-11-22 23:30"), timedelta(hours=1))

    (row,) = table(viewer)

    expected = {
        "team": "assistants",
        "period": "week",
        "first_day": "2026-11-16",
        "last_day": "2026-11-22",
        "time_zone": "UTC",
        "environment": "production",
        "feature": "support-chat",
        "milestone": "first_token",
        "objective_ratio": "0.99",
        "latency_budget_ms": "3000.0",
        "kept": "yes",
        "judged": "3000",
        "good": "2998",
        "achieved_ratio": "0.9993333333",
        "achieved_before_ratio": "1.0",
        "change_percentage_points": "-0.0666666667",
        "few": "yes",
        "error_budget_used_ratio": "0.0666666667",
        "incidents": "1",
        "incident_minutes": "30.0",
    }
    assert {name: row[name] for name in expected} == expected


def test_what_was_not_measured_is_empty_in_the_csv_and_not_zero(viewer: Client, feature: Feature) -> None:
    (row,) = table(viewer)

    assert (row["kept"], row["achieved_ratio"], row["error_budget_used_ratio"], row["judged"]) == (
        "",
        "",
        "",
        "0",
    )


def test_no_cell_of_the_csv_is_a_formula(viewer: Client, team: Team) -> None:
    feature = make_feature(
        team=team,
        name='=HYPERLINK("http://evil.example")',
        components=["@SUM(A1)"],
        latency_budgets=[],
        now=MADE,
    )
    redeclare(
        feature,
        now=utc("2026-11-17 09:00"),
        name='=HYPERLINK("http://evil.example")',
        components=["@SUM(A1)"],
        latency_budgets=[
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {"@SUM(A1)": 100},
                "note": "=1+1",
            }
        ],
    )
    incident(feature, utc("2026-11-17 10:00"), timedelta(hours=1), cause={"component": "@SUM(A1)"})

    (row,) = table(viewer)

    assert row["feature_name"].startswith("'=HYPERLINK")
    assert row["main_cause"] == "'@SUM(A1)"
    assert not [value for value in row.values() if value.startswith(("=", "@", "+"))]
    assert "=1+1" in row["budget_changes"]


def test_the_page_asks_as_often_for_twenty_features_as_for_one(
    viewer: Client, team: Team, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    def fill(numbers: range) -> None:
        for n in numbers:
            one = make_feature(team=team, slug=f"feature-{n}", now=MADE)
            rolled_up(one, {utc("2026-11-17 10:00"): (1000, 900)})
            incident(one, utc("2026-11-17 10:00"), timedelta(hours=1))

    def ask() -> Any:
        return page(viewer, WEEK)

    fill(range(1))
    with django_assert_num_queries(18):
        ask()
    fill(range(1, 20))
    with django_assert_num_queries(18):
        ask()
