"""A trace and the slow requests of a feature in a real browser: little, much and hostile."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from budgets.models import Feature
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.budgets.test_traced_requests import a_request, call, send, span, trace
from tests.factories import make_feature, make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "viewer@example.com"
HOSTILE = '<img src=x onerror="document.title=1">{{ 7*7 }} دعم 🦊 ' + "y" * 140
BOTH = [
    {"milestone": "first_token", "budget_ms": 3000, "objective": 0.99, "window_days": 28,
     "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300}},
    {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
]  # fmt: skip


@pytest.fixture
def feature() -> Feature:
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team)
    return make_feature(team=team, slug="chat", latency_budgets=BOTH, now=timezone.now() - timedelta(days=1))


def fill(feature: Feature) -> None:
    """120 requests, of which 40 are slow and most of these use the new search; one deep, one hostile."""
    now = timezone.now()

    def one(number: int, **overrides: Any) -> dict[str, Any]:
        return a_request(
            feature, number, **{"started_at": (now - timedelta(seconds=20 + number)).isoformat(), **overrides}
        )

    requests = [
        one(
            n,
            milestones={"first_token": 1000 + tools_ms, "complete": 2500 + tools_ms},
            components=[
                call("retrieval", 0, 200),
                call("tools", 200, tools_ms),
                call("model", 200 + tools_ms, 800),
            ],
            labels={"tool": "search_v2" if n < 30 or n > 110 else "search"},
            release="v412",
        )
        for n in range(120)
        for tools_ms in [2500 + n if n < 40 else 300]
    ]
    deep = [
        call(f"step {n % 30}", n, 2900 - 2 * n, span_id=span(n + 1), parent_span_id=span(n or 5000))
        for n in range(400)
    ]
    requests.append(one(500, milestones={"complete": 9000}, components=deep))
    requests.append(
        one(
            600,
            milestones={"complete": 20_000},
            status="timeout",
            components=[call(HOSTILE, 0, 19_000), call("model", 19_000, 1000, status="timeout")],
            labels={HOSTILE: HOSTILE * 6},
            release=HOSTILE[:200],
        )
    )
    send(feature, *requests, now=now)


def test_from_a_feature_to_what_slow_requests_share_to_a_trace_and_back(
    visit: Visit, feature: Feature
) -> None:
    fill(feature)
    page = visit.page
    visit.go("/login/")
    visit.log_in(EMAIL, PASSWORD)
    visit.go("/features/chat/?window=1h")
    page.locator("#slow-requests").evaluate("section => section.scrollIntoView()")
    expect(page.locator("#slow-requests")).to_contain_text("of slow requests have tool=search_v2")
    page.locator("#slowest-traces").evaluate("section => section.scrollIntoView()")
    expect(page.locator("#slowest-traces tbody tr")).to_have_count(10)
    page.locator("#slowest-traces tbody tr a").first.click()
    expect(page.locator(".verdict-lead")).to_contain_text("First token after 3.54 s")
    expect(page.locator(".waterfall .row-call")).to_have_count(3)
    # What is drawn is where it was: tools from 0.2 s on, and hatched from 1 s on.
    tools = page.locator(".waterfall .row-call").nth(1)
    bar, over = tools.locator("rect.bar").bounding_box(), tools.locator("rect.over").bounding_box()
    limit = page.locator(".waterfall .row-root line.limit").first.bounding_box()
    axis = page.locator(".waterfall .row-root rect.root").bounding_box()
    assert bar is not None
    assert over is not None
    assert limit is not None
    assert axis is not None
    a_second = axis["width"] / 3.539
    assert bar["x"] - axis["x"] == pytest.approx(0.2 * a_second, abs=2)
    assert over["x"] - axis["x"] == pytest.approx(1.0 * a_second, abs=2)
    assert limit["x"] - axis["x"] == pytest.approx(3.0 * a_second, abs=2)
    page.get_by_role("link", name="Up to complete").click()
    expect(page.locator(".verdict-lead")).to_contain_text("Took 5.04 s of 8 s")
    page.get_by_role("link", name="The feature at that time").click()
    expect(page).to_have_url(re.compile(r"/features/chat/\?.*from=.*to="))
    expect(page.locator("#verdict")).to_be_visible()


def test_traces_can_be_used_at_every_width_in_light_and_dark_whatever_they_are_called(
    visit: Visit, feature: Feature
) -> None:
    page = visit.page
    visit.go("/features/chat/slow-requests/")
    visit.log_in(EMAIL, PASSWORD)
    expect(page.locator("main")).to_contain_text("No request was judged")
    found = faults_of(page, "no slow request")
    fill(feature)
    for number, what in ((0, "a trace"), (500, "a deep trace"), (600, "a hostile trace")):
        visit.go(f"/features/chat/traces/{trace(number)}/")
        page.locator("#spans summary").click()
        found += faults_of(page, what)
        assert page.evaluate("document.querySelectorAll('main img').length") == 0
        assert page.title() != "1"
    expect(page.locator(".waterfall")).to_contain_text("{{ 7*7 }}")
    visit.go("/features/chat/slow-requests/")
    found += faults_of(page, "slow requests")
    assert found == [], "\n".join(found)
