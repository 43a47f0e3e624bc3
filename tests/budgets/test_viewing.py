"""What a page's address asks for, and by whose clock the page is written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.test import Client

from alerts.incidents import resolve
from budgets import charts, formats
from budgets.contexts.frame import View, view_of
from budgets.errors import Refusal
from budgets.models import Feature
from tests.alerts.scenes import burn, incidents_of, look
from tests.budgets.test_pages import chart, page, signed_in, text_of
from tests.factories import NOW, make_feature, make_team, make_traffic
from tests.people import make_person

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


def asked(**query: str) -> View:
    return view_of({name.rstrip("_"): value for name, value in query.items()}, NOW)


class TestView:
    def test_without_anything_is_the_objective_s_window_and_moves_with_the_clock(self) -> None:
        view = asked()

        assert (view.length, view.as_of, view.is_live) == (None, NOW, True)
        assert view.range_words(7) == "last 7 days"

    def test_a_window_at_a_moment_stays_there(self) -> None:
        view = asked(window="1h", at="2026-11-20T12:00:00Z", environment="staging")

        assert (view.length, view.is_live) == ("1h", False)
        assert view.as_of == datetime(2026, 11, 20, 12, tzinfo=UTC)
        assert view.range_words(28) == "1 hour up to 20 Nov 2026, 12:00 UTC"
        again = view_of({k: v for k, v in view.query.items() if v}, NOW)
        assert again == view

    def test_a_range_has_whole_minutes_and_ends_with_the_last_of_them(self) -> None:
        view = asked(from_="2026-11-20T12:00:30Z", to="2026-11-20T13:00:01+00:00")

        assert (view.start, view.end) == (
            datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
            datetime(2026, 11, 20, 13, 1, tzinfo=UTC),
        )
        assert view.end is not None
        assert view.end - MINUTE <= view.as_of < view.end
        assert view.length == timedelta(minutes=61)
        assert view.range_words(28) == "20 Nov 2026, 12:00 – 13:01 UTC"

    def test_a_range_that_goes_on_ends_now(self) -> None:
        assert asked(from_="2026-11-21T19:00:00Z", to="2030-01-01T00:00:00Z").end == NOW.replace(
            second=0
        ) + MINUTE * bool(NOW.second)

    def test_a_plus_that_was_not_escaped_is_still_one(self) -> None:
        assert asked(at="2026-11-20T13:00:00 01:00").as_of == datetime(2026, 11, 20, 12, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"window": "13m"}, "window"),
            ({"at": "yesterday"}, "at"),
            ({"at": "2031-01-01T00:00:00Z"}, "at"),
            ({"at": "9" * 400}, "at"),
            ({"at": "0001-01-01T00:00:00Z"}, "at"),
            ({"at": "9999-12-31T23:59:59Z"}, "at"),
            ({"from_": "0001-01-01T00:00:00Z", "to": "0001-01-01T00:00:00Z"}, "from"),
            ({"from_": "2026-11-20T12:00:00Z"}, "to"),
            ({"to": "2026-11-20T12:00:00Z"}, "from"),
            ({"from_": "2026-11-20T13:00:00Z", "to": "2026-11-20T12:00:00Z"}, "from"),
            ({"from_": "2031-11-20T13:00:00Z", "to": "2032-11-20T12:00:00Z"}, "from"),
            ({"from_": "2020-11-20T13:00:00Z", "to": "2026-11-20T12:00:00Z"}, "from"),
            ({"from_": "<img onerror>", "to": "2026-11-20T12:00:00Z"}, "from"),
            ({"from_": "2026-11-20T11:00:00Z", "to": "2026-11-20T12:00:00Z", "window": "1h"}, "window"),
        ],
    )
    def test_what_cannot_be_shown_is_refused_at_its_part_of_the_address(
        self, query: dict[str, str], field: str
    ) -> None:
        with pytest.raises(Refusal) as caught:
            asked(**query)

        assert (caught.value.code, list(caught.value.fields)) == ("invalid_range", [field])


class TestReadersClock:
    def test_writes_instants_with_the_zone_of_the_season(self) -> None:
        with formats.reading_in(BERLIN):
            assert formats.instant(datetime(2026, 11, 21, 20, 0, tzinfo=UTC)) == "21 Nov 2026, 21:00 CET"
            assert formats.instant(datetime(2026, 7, 1, 22, 30, tzinfo=UTC)) == "2 Jul 2026, 00:30 CEST"
            assert formats.zone_name() == "Europe/Berlin"
        assert formats.instant(datetime(2026, 11, 21, 20, 0, tzinfo=UTC)) == "21 Nov 2026, 20:00 UTC"

    def test_a_zone_without_letters_is_written_as_its_offset(self) -> None:
        with formats.reading_in(ZoneInfo("Asia/Kathmandu")):
            assert formats.instant(datetime(2026, 11, 21, 20, 0, tzinfo=UTC)) == "22 Nov 2026, 01:45 +05:45"

    def test_a_range_over_a_clock_change_names_both_zones(self) -> None:
        start = datetime(2026, 10, 24, 22, tzinfo=UTC)
        with formats.reading_in(BERLIN):
            assert (
                formats.between(start, start + timedelta(hours=25))
                == "25 Oct 2026, 00:00 CEST – 26 Oct 2026, 00:00 CET"
            )

    def test_a_day_of_25_hours_has_ticks_at_round_hours_of_the_clock(self) -> None:
        start = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Berlin
        with formats.reading_in(BERLIN):
            ticks = charts.time_ticks(start, start + timedelta(hours=25))

        assert [text for _, text in ticks] == [
            "25 Oct",
            "06:00",
            "12:00",
            "18:00",
            "26 Oct",
        ]
        hours = [(at - start) / timedelta(hours=1) for at, _ in ticks]
        assert hours == [0, 7, 13, 19, 25]

    def test_a_day_of_23_hours_leaves_out_what_the_clock_leaves_out(self) -> None:
        start = datetime(2026, 3, 29, 0, tzinfo=UTC)  # 01:00 in Berlin
        with formats.reading_in(BERLIN):
            ticks = charts.time_ticks(start, start + timedelta(hours=3))

        assert [text for _, text in ticks] == ["01:00", "01:30", "03:00", "03:30", "04:00", "04:30", "05:00"]


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature() -> Feature:
    return make_feature(team=make_team(slug="assistants"), slug="support-chat")


@pytest.fixture
def teammate(feature: Feature) -> Client:
    return signed_in(make_person("teammate@example.com", team=feature.team))


@pytest.mark.django_db
@pytest.mark.usefixtures("plain_static_files", "at_now")
class TestPages:
    def test_a_range_shows_what_was_measured_in_it_and_carries_on_to_charts_and_links(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=5), count=30, over=0, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(minutes=5), count=20, over=0, milestone="first_token")
        minute = NOW.replace(second=0)
        since, until = minute - timedelta(hours=6), minute - timedelta(hours=4)
        address = f"/features/support-chat/?from={since:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}"

        html = page(teammate, address)
        drawn = chart(
            teammate,
            "/features/support-chat/charts/percentiles.json"
            f"?milestone=first_token&target=milestone:first_token&{address.partition('?')[2]}",
        )

        text = text_of(html)
        assert "30 requests were in time" in text
        assert "p99, 21 Nov 2026, 14:00 – 16:00 UTC" in text
        assert "data-live" not in html
        assert ">Live</a>" in html
        assert f"from={since:%Y-%m-%dT%H}%3A{since:%M}%3A00Z&amp;to=" in html
        assert "30 measured" in drawn["summary"]

    def test_a_range_of_which_only_hours_are_kept_is_shown_to_the_end_of_its_last_one(
        self, feature: Feature, teammate: Client
    ) -> None:
        hour = (NOW - timedelta(days=20)).replace(minute=0, second=0, microsecond=0)
        for minutes, count in ((-30, 7), (30, 20), (80, 10)):
            at = hour + timedelta(minutes=minutes)
            make_traffic(feature, at=at, count=count, over=0, milestone="first_token", now=at)
        until = hour + timedelta(minutes=90)
        query = f"from={hour:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}"

        html = page(teammate, f"/features/support-chat/?{query}")
        drawn = chart(teammate, f"/features/support-chat/charts/heatmap.json?milestone=first_token&{query}")

        assert f"p99, {formats.between(hour, hour + timedelta(hours=2))}" in text_of(html)
        assert "30 requests" in drawn["summary"]
        assert "The range after" in html

    def test_nothing_leads_to_a_range_that_is_still_to_come(self, feature: Feature, teammate: Client) -> None:
        since = NOW - timedelta(hours=1)
        html = page(
            teammate, f"/features/support-chat/?from={since:%Y-%m-%dT%H:%M:%SZ}&to=2030-01-01T00:00:00Z"
        )

        assert "The range before" in html
        assert "The range after" not in html

    def test_a_moment_shows_the_same_tomorrow(self, feature: Feature, teammate: Client) -> None:
        make_traffic(feature, at=NOW - timedelta(minutes=5), count=20, over=0, milestone="first_token")
        address = f"/features/support-chat/?window=1h&at={NOW:%Y-%m-%dT%H:%M:%SZ}"
        before = text_of(page(teammate, address))

        with time_machine.travel(NOW + timedelta(days=1), tick=False):
            after = text_of(page(teammate, address))

        assert "p99, 1 hour up to 21 Nov 2026, 20:00 UTC" in before
        assert after == before

    def test_the_overview_of_a_moment_counts_nothing_later(self, feature: Feature, teammate: Client) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=30), count=20, over=0, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(minutes=5), count=20, over=20, milestone="first_token")

        text = text_of(page(teammate, f"/?at={NOW - timedelta(hours=28):%Y-%m-%dT%H:%M:%SZ}"))

        assert "All features keep their promise" in text

    def test_a_moment_shows_the_incidents_that_were_open_then(
        self, feature: Feature, teammate: Client
    ) -> None:
        burn(feature, NOW - timedelta(hours=2))
        look(feature, NOW - timedelta(hours=2))
        [incident] = incidents_of(feature)
        resolve(incident_id=incident.pk, actor="somebody", now=NOW - timedelta(hours=1))

        def told(minutes: int) -> list[bool]:
            at = NOW - timedelta(minutes=minutes)
            text = page(teammate, f"/?at={at:%Y-%m-%dT%H:%M:%SZ}") + page(
                teammate, f"/features/support-chat/?at={at:%Y-%m-%dT%H:%M:%SZ}"
            )
            return [incident.get_absolute_url() in text, "What must somebody look at?" in text]

        assert told(minutes=90) == [True, True]
        assert told(minutes=150)[0] is False
        assert incident.get_absolute_url() not in page(teammate, "/")

    def test_the_overview_says_when_an_error_budget_is_gone_at_this_pace(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(days=10), count=2000, over=0, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(hours=1), count=100, over=2, milestone="first_token")
        assert "gone in" not in text_of(page(teammate, "/")), "two bad requests may be chance"
        make_traffic(feature, at=NOW - timedelta(hours=1), count=20, over=18, milestone="first_token")

        overview = text_of(page(teammate, "/"))
        # 20 of 2120 bad, 21.2 allowed. At 20 bad in 120 requests of six hours, the rest lasts less than one hour.
        assert "5.66 % gone in 1 h" in overview

    @pytest.mark.parametrize("address", ["/", "/features/support-chat/"])
    def test_a_range_that_cannot_be_is_answered_in_the_frame_with_ways_on(
        self, feature: Feature, teammate: Client, address: str
    ) -> None:
        response = teammate.get(f"{address}?from=<img onerror=1>&to=x&environment=staging")

        html = response.content.decode()
        assert response.status_code == 400
        assert "This range cannot be shown" in html
        assert "Expected an instant such as" in html
        assert f'href="{address}?environment=staging&amp;window=1h"' in html
        assert "<img" not in html

    @pytest.mark.parametrize("query", ["address=1&name=2&window=13m", "address=1&from=2026-11-20T12:00&to=x"])
    def test_other_names_in_an_address_of_no_range_change_nothing(
        self, feature: Feature, teammate: Client, query: str
    ) -> None:
        response = teammate.get(f"/?{query}")

        assert response.status_code == 400
        assert "?address=1&amp;" in response.content.decode()

    def test_an_environment_with_what_no_name_can_have_is_one_without_it(
        self, feature: Feature, teammate: Client
    ) -> None:
        assert "staging" in page(teammate, "/features/support-chat/?environment=stag%00ing")

    def test_the_fields_of_the_range_lead_to_an_address_that_shows_everybody_the_same(
        self, feature: Feature, teammate: Client
    ) -> None:
        teammate.cookies["zone"] = "Europe/Berlin"

        response = teammate.get(
            "/features/support-chat/?milestone=first_token&from=2026-11-20T12:00&to=2026-11-20T13:00"
        )

        assert response.status_code == 302
        assert (
            response["Location"] == "/features/support-chat/?milestone=first_token"
            "&from=2026-11-20T11%3A00%3A00Z&to=2026-11-20T12%3A00%3A00Z"
        )

    def test_a_visitor_s_zone_is_in_pages_tables_and_ticks_and_never_in_files(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(minutes=5), count=20, over=0, milestone="first_token")
        query = "milestone=first_token&target=milestone:first_token&window=1h"
        teammate.cookies["zone"] = "Asia/Kolkata"

        text = text_of(page(teammate, f"/features/support-chat/?at={NOW:%Y-%m-%dT%H:%M:%SZ}"))
        drawn = chart(teammate, f"/features/support-chat/charts/percentiles.json?{query}")
        csv = teammate.get(f"/features/support-chat/charts/percentiles.csv?{query}").content.decode()

        assert "22 Nov 2026, 01:30 IST" in text
        assert "All times in Asia/Kolkata" in text
        assert drawn["table"]["columns"][0] == "Start (Asia/Kolkata)"
        assert drawn["table"]["rows"][0][0] == "22 Nov 2026, 01:25"
        assert "2026-11-21T19:55:00Z" in csv

    @pytest.mark.parametrize("name", ["Nowhere/Land", "../../etc/passwd", "x" * 500, "UTC", "Europe"])
    def test_a_zone_that_does_not_exist_is_utc(self, feature: Feature, teammate: Client, name: str) -> None:
        teammate.cookies["zone"] = name

        assert "All times in UTC" in text_of(page(teammate, "/features/support-chat/"))
