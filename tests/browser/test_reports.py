"""A team's report on a screen and on paper, as a product manager reads it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page

from alerts.models import ReportSubscription
from alerts.report_periods import Kind, last_finished
from budgets.models import Team
from tests.alerts.reported import incident, rolled_up
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.factories import make_feature, make_team, redeclare
from tests.people import make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "pat@example.com"
ADDRESS = "/teams/assistants/report/"
# A4 at 96 dpi, less the margins of the style sheet: 186 × 269 mm.
PAPER_PX = (703, 1016)


@pytest.fixture
def team() -> Team:
    """Last month: four features with odd names, of which one missed its promise, one had an incident, one changed."""
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team)
    period = last_finished(Kind.MONTH, timezone.now(), "UTC")
    start = datetime.combine(period.first_day, datetime.min.time(), UTC)
    names = ["Support chat", "x" * 120, "<img src=x onerror=alert(1)>", "مساعد الدعم"]
    for n, name in enumerate(names):
        feature = make_feature(team=team, slug=f"feature-{n}", name=name, now=start - timedelta(days=60))
        days = {start + timedelta(days=day, hours=10): (1000, 960 if n == 0 else 999) for day in range(27)}
        rolled_up(feature, days)
        if n == 1:
            incident(feature, start + timedelta(days=3), timedelta(hours=2), cause={"component": "tools"})
        if n == 2:
            redeclare(feature, name=name, now=start + timedelta(days=9), latency_budgets=[])
    return team


def test_a_report_is_read_on_any_screen_printed_whole_and_had_by_mail(visit: Visit, team: Team) -> None:
    visit.go(f"{ADDRESS}?period=month")
    visit.log_in(EMAIL, "correct horse battery")
    page = visit.page
    page.get_by_role("heading", name="Monthly report").wait_for()

    assert faults_of(page, "the report") == []
    # The address says all of it.
    assert re.search(r"\?period=month&start=\d{4}-\d\d-01&zone=UTC$", page.url)
    _is_printed_whole(page)

    page.get_by_label("by the clock of").first.fill("Europe/Berlin")
    page.get_by_role("button", name="Mail it to me weekly").click()
    page.get_by_role("button", name="Stop the weekly mail").wait_for()
    assert ReportSubscription.objects.get().time_zone == "Europe/Berlin"
    assert "period=month" in page.url


def _is_printed_whole(page: Page) -> None:
    """Black on white, without what leads elsewhere, nothing wider than the paper and nothing that would scroll."""
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": PAPER_PX[0], "height": PAPER_PX[1]})
    clipped = page.evaluate(
        """([width]) => [...document.querySelectorAll("main *")]
          .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden"))
          .filter((one) => one.getBoundingClientRect().right > width + 0.5
            || /auto|scroll/.test(getComputedStyle(one).overflowX + getComputedStyle(one).overflowY))
          .map((one) => one.outerHTML.slice(0, 120))""",
        list(PAPER_PX),
    )
    assert clipped == []
    colours = page.evaluate(
        """() => [...new Set([...document.querySelectorAll("main *")]
          .filter((one) => one.checkVisibility() && one.innerText)
          .map((one) => getComputedStyle(one).color))]"""
    )
    assert colours == ["rgb(0, 0, 0)"]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for selector in (
        ".masthead",
        ".viewbar",
        ".team-tabs",
        ".team-nav",
        ".report-controls",
        ".report-mail",
        ".footer",
    ):
        assert not page.locator(selector).first.is_visible(), selector
    # A table and no cards, with its head.
    assert page.locator(".report-table thead th").first.is_visible()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.report-table tbody tr')).display")
        == "table-row"
    )
    pdf = page.pdf(prefer_css_page_size=True)
    sizes = set(re.findall(rb"/MediaBox ?\[ ?0 0 (\d+)[.\d]* (\d+)", pdf))
    assert sizes <= {(b"594", b"841"), (b"595", b"841"), (b"595", b"842"), (b"594", b"842")}, sizes
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
