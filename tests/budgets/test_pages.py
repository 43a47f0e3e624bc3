from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from budgets.models import Feature, Membership, Team, User
from budgets.status import get_feature_status
from tests.factories import NOW, feature_document, make_feature, make_team, make_traffic, measure, measurement
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

HOSTILE = '<img src=x onerror="alert(1)">'
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def teammate(team: Team) -> Client:
    return signed_in(make_person("teammate@example.com", team=team))


@pytest.fixture
def outsider() -> Client:
    return signed_in(make_person("outsider@example.com", team=make_team()))


def page(client: Client, address: str, **headers: Any) -> str:
    response = client.get(address, **headers)
    assert response.status_code == 200, response.content.decode()[:500]
    return response.content.decode()


def text_of(html: str) -> str:
    """What a person reads, spaces made equal."""
    html = re.sub(r"<(script|style|title).*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).replace(" ,", ",").replace(" .", ".")


def chart(client: Client, address: str, **headers: Any) -> dict[str, Any]:
    response = client.get(address, **headers)
    assert response.status_code == 200, response.content
    return json.loads(response.content)


PAGES = ["/", "/features/support-chat/"]
CHARTS = [
    "/features/support-chat/charts/allocation.json?milestone=first_token",
    "/features/support-chat/charts/tail-path.json?milestone=first_token",
    "/features/support-chat/charts/heatmap.json?milestone=first_token",
    "/features/support-chat/charts/heatmap.csv?milestone=first_token",
    "/features/support-chat/charts/percentiles.json?milestone=first_token&target=milestone:first_token",
    "/features/support-chat/charts/percentiles.csv?milestone=first_token&target=component:tools",
    "/features/support-chat/charts/burn-rate.json?milestone=first_token&tier=1h",
    "/features/support-chat/charts/burn-down.json?milestone=first_token",
]


class TestWhoMaySee:
    @pytest.mark.parametrize("address", PAGES + CHARTS)
    def test_a_stranger_is_asked_to_log_in_and_comes_back_to_where_they_wanted(
        self, client: Client, feature: Feature, address: str
    ) -> None:
        response = client.get(address)

        assert response.status_code == 302
        assert response["Location"].startswith("/login/?next=/")

    @pytest.mark.parametrize("address", PAGES + CHARTS)
    def test_a_teammate_sees_it(self, teammate: Client, feature: Feature, address: str) -> None:
        assert teammate.get(address).status_code == 200

    @pytest.mark.parametrize("address", [PAGES[1], *CHARTS])
    def test_to_an_outsider_it_does_not_exist(self, outsider: Client, feature: Feature, address: str) -> None:
        assert outsider.get(address).status_code == 404

    def test_an_outsiders_overview_does_not_mention_it(self, outsider: Client, feature: Feature) -> None:
        assert feature.get_absolute_url() not in page(outsider, "/")

    def test_a_superuser_sees_every_team(self, feature: Feature) -> None:
        root = User.objects.create_superuser("root@example.com", PASSWORD)

        assert feature.name in page(signed_in(root), "/")

    @pytest.mark.parametrize("address", PAGES + CHARTS)
    def test_pages_are_only_read(self, teammate: Client, feature: Feature, address: str) -> None:
        assert teammate.post(address).status_code == 405


class TestLogIn:
    def test_an_address_is_the_same_in_capitals(self, client: Client) -> None:
        make_person("somebody@example.com")

        response = client.post("/login/", {"username": "Somebody@Example.com", "password": PASSWORD})

        assert (response.status_code, response["Location"]) == (302, "/")

    def test_a_wrong_password_says_what_to_check_and_not_whether_the_account_exists(
        self, client: Client
    ) -> None:
        make_person("somebody@example.com")

        answers = [
            text_of(client.post("/login/", {"username": email, "password": "wrong"}).content.decode())
            for email in ("somebody@example.com", "nobody@example.com")
        ]

        assert answers[0] == answers[1]
        assert "No account has this e-mail address and password." in answers[0]

    def test_a_field_that_is_left_out_is_named_beside_the_field(self, client: Client) -> None:
        html = client.post("/login/", {"username": "", "password": ""}).content.decode()

        assert html.count("This field is required.") == 2
        assert 'aria-invalid="true"' in html
        assert 'aria-describedby="id_username_error"' in html

    def test_it_leads_to_the_page_that_was_asked_for(self, client: Client, feature: Feature) -> None:
        make_person("somebody@example.com", team=feature.team)
        address = "/features/support-chat/?window=1h"

        response = client.post(
            "/login/", {"username": "somebody@example.com", "password": PASSWORD, "next": address}
        )

        assert response["Location"] == address

    def test_it_leads_nowhere_else(self, client: Client) -> None:
        make_person("somebody@example.com")

        response = client.post(
            "/login/",
            {"username": "somebody@example.com", "password": PASSWORD, "next": "https://evil.example/"},
        )

        assert response["Location"] == "/"

    def test_logging_out_takes_a_form(self, teammate: Client) -> None:
        assert teammate.get("/logout/").status_code == 405
        assert teammate.post("/logout/").status_code == 302
        assert teammate.get("/").status_code == 302


class TestOverview:
    def test_counts_what_needs_attention_and_lists_the_worst_first(
        self, team: Team, teammate: Client
    ) -> None:
        calm = make_feature(team=team, slug="calm", name="A calm feature")
        silent = make_feature(team=team, slug="silent", name="B silent feature")
        burning = make_feature(team=team, slug="burning", name="C burning feature")
        make_traffic(calm, at=NOW - timedelta(hours=3), count=300, over=0, milestone="first_token")
        make_traffic(burning, at=NOW - timedelta(hours=3), count=300, over=30, milestone="first_token")

        html = page(teammate, "/")

        assert "1 of 3 features needs attention" in text_of(html)
        names = [html.index(f.name) for f in (burning, silent, calm)]
        assert names == sorted(names)

    def test_says_so_when_all_keep_their_promise(self, feature: Feature, teammate: Client) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=3), count=300, over=0, milestone="first_token")

        assert "All features keep their promise" in text_of(page(teammate, "/"))

    def test_shows_the_objectives_percentile_against_the_budget_with_its_figures(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(
            feature, at=NOW - timedelta(hours=3), count=100, over=0, good_ms=1024.0, milestone="first_token"
        )

        text = text_of(page(teammate, "/"))

        assert re.search(r"p99 1\d\d\d ms of 3000 ms", text)
        assert "100 % of 99 %" in text

    def test_names_the_component_that_is_furthest_over(self, feature: Feature, teammate: Client) -> None:
        at = NOW - timedelta(hours=3)
        make_traffic(feature, at=at, count=100, over=0, milestone="first_token")
        make_traffic(feature, at=at, count=100, over=20, component="tools")
        make_traffic(feature, at=at, count=100, over=50, component="retrieval")

        html = page(teammate, "/")

        assert "retrieval" in html
        assert "tools" not in html

    def test_a_feature_that_was_not_measured_has_no_worst_component_to_speak_of(
        self, feature: Feature, teammate: Client
    ) -> None:
        assert "none over" not in text_of(page(teammate, "/"))
        make_traffic(feature, at=NOW - timedelta(hours=3), count=100, over=0, milestone="first_token")
        assert "none over" in text_of(page(teammate, "/"))

    def test_with_no_feature_it_says_how_to_declare_one_and_leads_to_keys(
        self, team: Team, teammate: Client
    ) -> None:
        html = page(teammate, "/")

        assert "No feature yet" in text_of(html)
        assert f'"team": "{team.slug}"' in text_of(html)
        assert f'href="/teams/{team.slug}/keys/"' in html
        assert len(re.findall('class="button', html.partition('class="empty"')[2])) <= 1, "one action"

    def test_without_any_team_it_leads_a_superuser_to_making_one(self) -> None:
        html = page(signed_in(User.objects.create_superuser("root@example.com", PASSWORD)), "/")

        assert "Make a team first" in text_of(html)
        assert 'class="button button-primary" href="/teams/"' in html

    def test_a_person_without_a_team_is_told_whom_to_ask(self) -> None:
        text = text_of(page(signed_in(make_person("new@example.com")), "/"))

        assert "You belong to no team." in text
        assert "curl" not in text

    def test_a_filter_that_matches_nothing_bad_says_all_clear_and_leads_back(
        self, feature: Feature, teammate: Client
    ) -> None:
        html = page(teammate, "/?state=breached&window=1h")

        assert "All clear: no feature is breached." in text_of(html)
        assert 'href="/?window=1h"' in html

    def test_a_filter_that_matches_nothing_else_says_no_match(
        self, feature: Feature, teammate: Client
    ) -> None:
        assert "No feature is in this state." in text_of(page(teammate, "/?state=ok"))

    def test_archived_features_are_left_out(self, feature: Feature, teammate: Client) -> None:
        feature.archived_at = NOW
        feature.save()

        assert feature.get_absolute_url() not in page(teammate, "/")

    def test_queries_do_not_grow_with_features(
        self, team: Team, teammate: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        def add(number: int) -> None:
            added = make_feature(team=team, slug=f"feature-{number}")
            for where in ({"milestone": "first_token"}, {"component": "tools"}, {"component": "cache"}):
                make_traffic(added, at=NOW - timedelta(hours=3), count=5, over=1, **where)

        add(0)
        page(teammate, "/")
        with django_assert_max_num_queries(100) as first:
            page(teammate, "/")
        for number in range(1, 5):
            add(number)
        with django_assert_max_num_queries(len(first)):
            assert page(teammate, "/").count("feature-name") == 5


class TestFeaturePage:
    def test_before_the_first_measurement_it_leads_to_keys_and_after_it_no_more(
        self, feature: Feature, teammate: Client
    ) -> None:
        waiting = page(teammate, "/features/support-chat/")
        make_traffic(feature, at=NOW - timedelta(hours=3), count=1, over=0, milestone="first_token")
        measured = page(teammate, "/features/support-chat/")

        assert "Waiting for its first measurement" in text_of(waiting)
        assert f'href="/features/{feature.slug}/start/"' in waiting
        assert "Waiting for its first measurement" not in text_of(measured)

    @pytest.fixture
    def measured(self, feature: Feature) -> Feature:
        at = NOW - timedelta(hours=3)
        make_traffic(feature, at=at, count=400, over=1, milestone="first_token")
        make_traffic(feature, at=at, count=200, over=50, over_ms=2000.0, component="tools")
        make_traffic(feature, at=at, count=200, over=0, component="model")
        return feature

    def test_the_verdict_says_what_was_kept_and_what_was_promised(
        self, measured: Feature, teammate: Client
    ) -> None:
        text = text_of(page(teammate, "/features/support-chat/"))

        assert "First token keeps its promise" in text
        assert "99.75 % of 400 requests were in time, promised are 99 % within 3 s over 28 days." in text

    def test_names_the_worst_component_with_its_figures(self, measured: Feature, teammate: Client) -> None:
        text = text_of(page(teammate, "/features/support-chat/"))

        assert re.search(
            r"Worst component: tools, p99 [\d.]+ s against its allocation of 800 ms; 25.0 % of its calls",
            text,
        )

    def test_the_tiles_say_how_many_slow_requests_are_left(self, measured: Feature, teammate: Client) -> None:
        text = text_of(page(teammate, "/features/support-chat/"))

        assert "399 good of 400" in text
        assert "3 more may be slow or fail, of 4 allowed" in text

    def test_the_sections_stand_in_the_order_in_which_one_asks(
        self, measured: Feature, teammate: Client
    ) -> None:
        html = page(teammate, measured.get_absolute_url())

        found = re.findall(r'<(?:section|div|dl)[^>]* (?:id|aria-labelledby)="([a-z-]+)"', html)
        order = [
            "verdict",
            "tiles",
            "open-incidents",
            "allocation-heading",
            "latency-heading",
            "burn-down-heading",
            "burn-rates-heading",
            "slow-requests-heading",
            "slowest-traces-heading",
            "versions-heading",
            "annotations-heading",
            "incidents-heading",
        ]
        assert [one for one in found if one in order] == order

    def test_a_tile_says_when_the_error_budget_is_used_up_at_this_pace(
        self, feature: Feature, teammate: Client
    ) -> None:
        # 2 of 600 were bad, a fiftieth of the hundred of late: after n hours 2 + n/3 against 6 + n/6, so 24.
        make_traffic(feature, at=NOW - timedelta(hours=1), count=100, over=2, milestone="first_token")
        make_traffic(feature, at=NOW - timedelta(hours=30), count=500, over=0, milestone="first_token")

        text = text_of(page(teammate, feature.get_absolute_url()))

        assert "Exhaustion in 1 d" in text.replace("\N{NO-BREAK SPACE}", " ")
        assert "Sun 22 Nov, 20:00 UTC, at the pace of the last 6 hours" in text

    def test_an_overspent_error_budget_says_by_how_many_requests(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=3), count=400, over=10, milestone="first_token")

        text = text_of(page(teammate, "/features/support-chat/"))

        assert "First token has overspent its error budget." in text
        assert "6 bad requests more than the 4 allowed" in text
        assert "−150 %" in text

    def test_the_last_point_of_the_burn_down_is_the_tiles_figure(
        self, measured: Feature, teammate: Client
    ) -> None:
        status = get_feature_status(measured, milestone="first_token", now=NOW)
        assert status.error_budget is not None
        assert status.error_budget.remaining_ratio is not None

        drawn = chart(teammate, "/features/support-chat/charts/burn-down.json?milestone=first_token")

        last = drawn["figure"]["data"][-1]["y"][-1]
        assert last == pytest.approx(100 * status.error_budget.remaining_ratio)
        assert f"{last:.1f} % " in text_of(page(teammate, "/features/support-chat/"))

    def test_few_measurements_are_flagged(self, feature: Feature, teammate: Client) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=3), count=14, over=0, milestone="first_token")

        assert "from 14 requests only" in text_of(page(teammate, "/features/support-chat/"))

    def test_no_data_differs_from_ok_and_from_zero(self, feature: Feature, teammate: Client) -> None:
        text = text_of(page(teammate, "/features/support-chat/"))

        assert "Nothing was measured for first token in the last 28 days." in text
        assert "No data" in text
        assert "0 % of" not in text

    def test_a_component_nobody_allocated_is_marked_as_such(self, feature: Feature, teammate: Client) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=3), count=50, over=0, component="guardrails")

        text = text_of(page(teammate, "/features/support-chat/"))

        assert re.search(r"guardrails ◇ Unallocated none", text)

    def test_a_milestone_without_a_budget_is_shown_and_not_judged(
        self, feature: Feature, teammate: Client
    ) -> None:
        make_traffic(feature, at=NOW - timedelta(hours=3), count=50, over=0, milestone="complete")

        text = text_of(page(teammate, "/features/support-chat/?milestone=complete"))

        assert "Complete has no latency budget in force, 50 measured" in text
        assert "This milestone has no latency budget." in text
        assert "burn-down" not in text

    def test_a_feature_without_milestones_says_what_is_missing(self, team: Team, teammate: Client) -> None:
        make_feature(team=team, slug="bare", latency_budgets=[])

        assert "No milestone has been declared or measured." in text_of(page(teammate, "/features/bare/"))

    def test_where_components_are_allocated_under_the_other_milestone_it_leads_there(
        self, team: Team, teammate: Client
    ) -> None:
        budgets = feature_document()["latency_budgets"]
        both = [*budgets, {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28}]
        make_feature(team=team, slug="both", latency_budgets=both)

        html = page(teammate, "/features/both/?milestone=complete&window=1h")

        assert "The components of this feature have their share of first token." in text_of(html)
        assert 'href="/features/both/?milestone=first_token&amp;window=1h"' in html
        assert "charts/tail-path.json" in html, "the budget is shown with the first token's block"

    def test_the_url_alone_chooses_milestone_range_and_environment(
        self, team: Team, teammate: Client
    ) -> None:
        budgets = feature_document()["latency_budgets"]
        both = [*budgets, {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 7}]
        made = make_feature(team=team, slug="both", latency_budgets=both)
        make_traffic(
            made, at=NOW - timedelta(minutes=3), count=20, over=0, milestone="complete", environment="staging"
        )

        text = text_of(page(teammate, "/features/both/?milestone=complete&window=5m&environment=staging"))

        assert "Complete keeps its promise. 100 % of 20 requests were in time" in text
        assert "p99, last 5 minutes" in text
        assert "staging" in text

    def test_a_milestone_that_the_url_cannot_mean_is_the_first(
        self, feature: Feature, teammate: Client
    ) -> None:
        text = text_of(page(teammate, "/features/support-chat/?milestone=never"))

        assert "p99, last 28 days" in text

    def test_versions_are_listed_and_marked_in_charts(
        self, feature: Feature, teammate: Client, team: Team
    ) -> None:
        changed = feature_document()["latency_budgets"][0] | {"budget_ms": 3500, "note": "prompts grew"}
        with time_machine.travel(NOW - timedelta(hours=2), tick=False):
            make_feature(
                team=team, slug="support-chat", latency_budgets=[changed], now=NOW - timedelta(hours=2)
            )
        make_traffic(feature, at=NOW - timedelta(minutes=10), count=20, over=0, milestone="first_token")

        text = text_of(page(teammate, "/features/support-chat/"))
        drawn = chart(
            teammate,
            "/features/support-chat/charts/percentiles.json?milestone=first_token&target=milestone:first_token&window=6h",
        )

        assert "2 in force" in text
        assert "prompts grew" in text
        assert "limits v2" in [a.get("text") for a in drawn["figure"]["layout"]["annotations"]]
        limits = next(t["y"] for t in drawn["figure"]["data"] if t["name"] == "latency budget")
        assert {3000.0, 3500.0} == set(limits)

    def test_queries_do_not_grow_with_components(
        self, feature: Feature, teammate: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        at = NOW - timedelta(hours=3)
        make_traffic(feature, at=at, count=5, over=0, component="tools")
        page(teammate, "/features/support-chat/")
        with django_assert_max_num_queries(100) as first:
            page(teammate, "/features/support-chat/")
        for number in range(8):
            make_traffic(feature, at=at, count=5, over=0, component=f"part-{number}")
        with django_assert_max_num_queries(len(first)):
            assert "part-7" in page(teammate, "/features/support-chat/")


class TestCharts:
    def test_an_unchanged_chart_is_not_sent_again(self, feature: Feature, teammate: Client) -> None:
        first = teammate.get(CHARTS[-1])
        again = teammate.get(CHARTS[-1], HTTP_IF_NONE_MATCH=first["ETag"])

        assert (again.status_code, again.content) == (304, b"")
        assert "private" in first["Cache-Control"]

    def test_a_chart_travels_compressed_and_is_still_not_sent_twice(
        self, feature: Feature, teammate: Client
    ) -> None:
        plain = teammate.get(CHARTS[-1])
        first = teammate.get(CHARTS[-1], HTTP_ACCEPT_ENCODING="gzip")
        again = teammate.get(CHARTS[-1], HTTP_ACCEPT_ENCODING="gzip", HTTP_IF_NONE_MATCH=first["ETag"])

        assert first["Content-Encoding"] == "gzip"
        assert len(first.content) < len(plain.content) / 2
        assert gzip.decompress(first.content) == plain.content
        assert again.status_code == 304

    def test_new_measurements_change_the_tag(self, feature: Feature, teammate: Client) -> None:
        first = teammate.get(CHARTS[-1])
        make_traffic(feature, at=NOW - timedelta(minutes=2), count=5, over=1, milestone="first_token")

        assert teammate.get(CHARTS[-1], HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 200

    @pytest.mark.parametrize("address", [one for one in CHARTS if ".json" in one])
    def test_its_queries_grow_neither_with_releases_nor_with_components(
        self, feature: Feature, teammate: Client, address: str
    ) -> None:
        def measured(releases: int, components: list[str]) -> int:
            for n in range(releases):
                items = [
                    measurement(
                        feature, ended_at=NOW - timedelta(minutes=n), duration_ms=400, release=f"v{n}", **what
                    )
                    for what in [{"milestone": "first_token"}, *({"component": name} for name in components)]
                ]
                measure(feature.team, items)
            with CaptureQueriesContext(connection) as queries:
                assert teammate.get(address).status_code == 200
            return len(queries)

        assert measured(1, ["tools"]) == measured(4, ["tools", "model", "cache", "index", "rerank"])

    def test_a_tier_that_does_not_exist_is_404(self, feature: Feature, teammate: Client) -> None:
        address = "/features/support-chat/charts/burn-rate.json?milestone=first_token&tier=9h"

        assert teammate.get(address).status_code == 404

    def test_a_chart_that_does_not_exist_is_404(self, feature: Feature, teammate: Client) -> None:
        assert teammate.get("/features/support-chat/charts/pie.json?milestone=first_token").status_code == 404

    @pytest.mark.parametrize(
        ("address", "code"),
        [
            ("percentiles.json?milestone=first_token&target=component:never", "unknown_target"),
            ("percentiles.json?milestone=first_token", "unknown_target"),
            ("allocation.json?milestone=x", "unknown_milestone"),
            ("burn-down.json?milestone=complete", "no_latency_budget"),
        ],
    )
    def test_what_cannot_be_drawn_says_why(
        self, feature: Feature, teammate: Client, address: str, code: str
    ) -> None:
        response = teammate.get(f"/features/support-chat/charts/{address}")

        assert response.status_code in (400, 404)
        assert response.json()["error"]["code"] == code

    def test_csv_is_a_download_that_no_spreadsheet_takes_for_a_formula(
        self, team: Team, teammate: Client
    ) -> None:
        name = "=HYPERLINK(1)"
        document = feature_document(components=[name])
        document["latency_budgets"][0]["allocations"] = {name: 100}
        make_feature(
            team=team, slug="formula", components=[name], latency_budgets=document["latency_budgets"]
        )

        response = teammate.get("/features/formula/charts/allocation.csv?milestone=first_token")

        assert "attachment" in response["Content-Disposition"]
        assert "'=HYPERLINK(1)" in response.content.decode()


class TestRefresh:
    @pytest.mark.parametrize("address", PAGES)
    def test_htmx_gets_the_regions_and_no_frame(
        self, feature: Feature, teammate: Client, address: str
    ) -> None:
        response = teammate.get(address, **HTMX)
        html = response.content.decode()

        assert response["X-Page-Part"] == "1"
        assert "<html" not in html
        assert 'hx-swap-oob="true"' in html
        assert "data-chart" not in html, "a chart's element is never exchanged"
        assert "HX-Request" in response["Vary"]

    @pytest.mark.parametrize("address", PAGES)
    def test_every_region_that_comes_has_its_place_on_the_page(
        self, feature: Feature, teammate: Client, address: str
    ) -> None:
        whole, parts = page(teammate, address), page(teammate, address, **HTMX)

        ids = re.findall(r'id="([^"]+)"[^>]*hx-swap-oob="true"', parts)
        assert len(ids) >= 4
        assert all(whole.count(f'id="{each}"') == 1 for each in ids)


class TestHostileNames:
    @pytest.fixture
    def hostile(self, team: Team) -> Feature:
        made = make_feature(team=team, slug="hostile", name=HOSTILE, description=HOSTILE)
        items = [
            measurement(
                made,
                ended_at=NOW - timedelta(minutes=5),
                duration_ms=5.0,
                component=HOSTILE,
                environment=HOSTILE,
            ),
            measurement(
                made,
                ended_at=NOW - timedelta(minutes=5),
                duration_ms=5.0,
                milestone="first_token",
                environment=HOSTILE,
            ),
        ]
        measure(team, items)
        return made

    @pytest.mark.parametrize("address", ["/", "/features/hostile/"])
    @pytest.mark.parametrize("headers", [{}, HTMX])
    def test_are_text_on_every_page(
        self, hostile: Feature, teammate: Client, address: str, headers: dict[str, str]
    ) -> None:
        html = page(
            teammate, f"{address}?environment=%3Cimg+src%3Dx+onerror%3D%22alert%281%29%22%3E", **headers
        )

        assert "<img" not in html
        assert "&lt;img src=x" in html

    def test_are_letters_in_charts(self, hostile: Feature, teammate: Client) -> None:
        query = "?milestone=first_token&environment=%3Cimg+src%3Dx+onerror%3D%22alert%281%29%22%3E"
        drawn = chart(teammate, f"/features/hostile/charts/allocation.json{query}")

        assert "<img" not in json.dumps(drawn["figure"])
        assert "&lt;img" in json.dumps(drawn["figure"])


class TestStrictness:
    @pytest.mark.parametrize("address", [*PAGES, "/login/", "/nowhere/"])
    def test_no_page_has_inline_script_or_style_that_the_policy_would_refuse(
        self, feature: Feature, teammate: Client, client: Client, address: str
    ) -> None:
        response = (client if address == "/login/" else teammate).get(address)
        html, policy = response.content.decode(), response["Content-Security-Policy"]

        assert "unsafe" not in policy
        assert not re.search(r"\sstyle=", html)
        assert not re.search(r"\son[a-z]+=", html)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
        nonce = re.search(r"'nonce-([^']+)'", policy)
        assert nonce
        assert f'<style id="plotly.js-style-global" nonce="{nonce[1]}"></style>' in html

    def test_the_theme_a_visitor_chose_is_in_the_first_byte(self, teammate: Client) -> None:
        teammate.cookies["theme"] = "dark"
        assert '<html lang="en-GB" data-theme="dark">' in page(teammate, "/")

        teammate.cookies["theme"] = '"><script>'
        assert '<html lang="en-GB" data-theme="auto">' in page(teammate, "/")


class TestErrorPages:
    def test_a_page_that_is_not_there_stands_in_the_frame(self, teammate: Client) -> None:
        response = teammate.get("/features/never/")

        assert response.status_code == 404
        assert "There is no such page" in response.content.decode()
        assert 'aria-label="Main"' in response.content.decode()

    def test_a_stranger_gets_it_without_navigation(self, client: Client) -> None:
        response = client.get("/nowhere/")

        assert response.status_code == 404
        assert 'aria-label="Main"' not in response.content.decode()

    def test_a_form_without_its_token_says_that_nothing_was_changed(self) -> None:
        response = Client(enforce_csrf_checks=True).post(
            "/login/", {"username": "a@example.com", "password": "x"}
        )

        assert response.status_code == 403
        assert "Nothing was changed." in response.content.decode()

    @pytest.mark.parametrize("name", ["400.html", "500.html"])
    def test_the_pages_of_last_resort_need_nothing(self, name: str) -> None:
        assert "Back to the overview" in render_to_string(name)


def test_roles_do_not_change_what_is_seen(team: Team, feature: Feature) -> None:
    seen = {
        role: text_of(
            page(
                signed_in(make_person(f"{role}@example.com", team=team, role=role)), "/features/support-chat/"
            )
        )
        for role in Membership.Role.values
    }
    # But for the way to change it.
    assert "Edit budgets" not in seen[Membership.Role.VIEWER]
    assert "Add note" not in seen[Membership.Role.VIEWER]
    same = {
        re.sub("Add note .*? Add to charts ", "", text)
        .replace(f"{role}@example.com", "")
        .replace("Edit budgets ", "")
        for role, text in seen.items()
    }
    assert len(same) == 1
