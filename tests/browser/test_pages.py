from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from alerts.models import Incident
from budgets.models import Feature, Membership
from tests.alerts.scenes import burn, look, overrun
from tests.browser.conftest import Visit
from tests.factories import make_channel, make_feature, make_team, make_traffic
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "on-call@example.com"


@pytest.fixture
def feature() -> Feature:
    """Support chat, burning since a minute ago because of its tools, and somebody on call for it."""
    now = timezone.now()
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.EDITOR)
    make_channel(team)
    feature = make_feature(team=team, slug="support-chat", now=now)
    make_traffic(feature, at=now - timedelta(hours=5), count=120, over=0, milestone="first_token")
    for component in ("model", "retrieval", "overhead"):
        make_traffic(feature, at=now - timedelta(minutes=1), count=60, over=0, component=component)
    overrun(feature, now - timedelta(minutes=1))
    burn(feature, now - timedelta(minutes=1))
    look(feature, now)
    return feature


def test_on_call_walks_from_the_login_to_an_acknowledged_incident(visit: Visit, feature: Feature) -> None:
    page = visit.page
    visit.go("/")

    visit.log_in(EMAIL, "not this one")
    expect(page.get_by_role("alert")).to_contain_text("No account has this e-mail address and password")
    visit.log_in(EMAIL, PASSWORD)

    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 1 feature needs attention")
    expect(page).to_have_title("✕ 1 of 1 – Latency Dashboard")
    page.locator("#features").get_by_role("link", name="Support chat").click()

    expect(page.locator("#verdict")).to_contain_text("Worst component: tools")
    assert visit.draw_all_charts() == 12
    expect(page.locator("#chart-support-chat-allocation .chart-summary")).to_contain_text(
        "Over their allocation: tools"
    )
    assert page.evaluate("window.layoutShift") < 0.1
    page.locator("#open-incidents").get_by_role("link").first.click()

    expect(page.locator("#verdict")).to_contain_text("Open")
    visit.draw_all_charts()
    page.locator("#note > summary").click()
    page.get_by_label("Note (optional)").fill("rolling back the tools")
    page.get_by_role("button", name="Acknowledge").click()

    expect(page.locator(".message")).to_contain_text("Acknowledged.")
    expect(page.locator("#log")).to_contain_text("rolling back the tools")
    assert Incident.objects.get().acknowledged_by == EMAIL


_LAYOUTS = """
[...document.querySelectorAll("figure[data-state=drawn] .chart-plot")].map((place) => [
  place.clientWidth - Math.round(place.querySelector(".main-svg").getBoundingClientRect().width),
  place.layout.margin.l,
  place.layout.margin.r,
  place.layout.xaxis && place.layout.xaxis.tickvals && place.layout.xaxis.tickvals.length,
])
"""


def test_a_chart_fits_its_place_whatever_changed_its_width(visit: Visit, feature: Feature) -> None:
    """Margins and ticks as well, and nobody sees it as wide as before, also where the theme changes at once."""
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/login/")
    at: dict[int, object] = {}
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        visit.go("/features/support-chat/")
        visit.draw_all_charts()
        at[width] = page.evaluate(_LAYOUTS)
    assert at[390] != at[1280]
    for width, theme in ((1280, "light"), (390, "light"), (1280, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        two_frames = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        page.evaluate(two_frames)
        assert page.evaluate(_LAYOUTS) == at[width], (width, theme)


def test_the_page_stays_current_and_keeps_what_a_person_opened(visit: Visit, feature: Feature) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/")
    page.locator("#features").get_by_role("link", name="Support chat").click()
    visit.draw_all_charts()
    numbers = page.locator("#chart-support-chat-burn-down .chart-numbers")
    numbers.locator("summary").click()
    expect(numbers.locator("table")).to_contain_text("Judged")
    before = page.locator("#tiles").inner_text()
    tab = page.locator("#milestones a")
    tab.focus()
    page.evaluate("window.isSamePage = true")

    make_traffic(feature, at=timezone.now(), count=50, over=0, milestone="first_token")

    expect(page.locator("#tiles")).not_to_have_text(before)
    expect(page.locator("#tiles")).to_contain_text("of 230")
    assert page.evaluate("window.isSamePage")
    expect(numbers).to_have_attribute("open", "")
    expect(tab).to_be_focused()

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")


def test_the_theme_a_person_chose_is_there_from_the_first_paint(visit: Visit, feature: Feature) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.locator("#theme-menu summary").click()
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light

    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_keyboard_alone_acknowledges_an_incident(visit: Visit, feature: Feature) -> None:
    page = visit.page
    visit.go(Incident.objects.get().get_absolute_url())
    page.keyboard.type(EMAIL)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Open")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Acknowledge")
    for _ in range(10):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    expect(button).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator(".message")).to_contain_text("Acknowledged.")
