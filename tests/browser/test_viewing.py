"""What is looked at, as a person changes it: range, moment, time zone, and by keys alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, expect

from budgets.models import Feature
from tests.browser.conftest import Visit
from tests.factories import make_feature, make_team, make_traffic
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "editor@example.com"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Of a visitor in Adelaide, half an hour beside the whole hours."""
    made = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", timezone_id="Australia/Adelaide"
    )
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def feature() -> Feature:
    now = timezone.now()
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team)
    feature = make_feature(team=team, slug="support-chat", now=now - timedelta(days=2))
    make_traffic(feature, at=now - timedelta(hours=3), count=90, over=0, milestone="first_token")
    make_traffic(feature, at=now - timedelta(minutes=9), count=60, over=0, milestone="first_token")
    return feature


def test_range_moment_zone_and_keys(visit: Visit, feature: Feature) -> None:
    """A drag over a chart is a range in the address, Back undoes it, a copied link pins the moment, and the zone is
    that of the visitor wherever a time stands."""
    page = visit.page
    visit.go("/login/")
    visit.log_in(EMAIL, PASSWORD)
    visit.go("/features/support-chat/?window=6h")
    visit.draw_all_charts()

    # Zoom: one step in the history, at the same place of the page.
    plot = page.locator("figure[data-chart*='percentiles'] .nsewdrag").first
    plot.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    box = plot.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=8)
    page.mouse.up()
    page.wait_for_url("**/features/support-chat/?from=*")
    query = parse_qs(urlsplit(page.url).query)
    assert query.keys() == {"from", "to"}
    assert all(value[0].endswith(":00Z") for value in query.values())
    expect(page.locator("#freshness")).to_contain_text("Live")
    assert page.evaluate("scrollY") == pytest.approx(before, abs=150)
    page.go_back()
    page.wait_for_url("**/?window=6h")

    # The same by a form, without a mouse.
    page.locator("#range-menu summary").click()
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**?from=*")
    page.get_by_role("link", name="Live").click()

    # A link to this moment.
    page.locator("#range-menu summary").click()
    page.get_by_role("link", name="Copy link to this moment").click()
    expect(page.locator("#announcer")).to_have_text("Link to this moment copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert parse_qs(urlsplit(copied).query).keys() == {"at"}
    page.goto(copied)
    expect(page.locator("#freshness")).to_contain_text("as of")
    expect(page.locator("[data-live]")).to_have_count(0)

    # Keys: the list, the zone, another page; and none of them where somebody has switched them off.
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    with page.expect_navigation():
        page.keyboard.press("u")
    expect(page.locator(".footer")).to_contain_text("All times in Australia/Adelaide")
    expect(page.locator("#freshness")).to_contain_text(re.compile("AC[SD]T"))
    with page.expect_navigation():
        page.keyboard.press("u")
    expect(page.locator(".footer")).to_contain_text("All times in UTC")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url(f"{visit.base}/")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="Support chat")).to_be_focused()
    page.keyboard.press("?")
    dialog.get_by_label("Single keys act on this device").uncheck()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page).to_have_url(f"{visit.base}/")
