"""What a page keeps while it stays open, when it leaves somebody in peace, and how it is held by a thumb."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Locator, Page, expect

from alerts.models import Incident, Silence
from budgets.models import Feature, Membership
from tests.alerts.scenes import burn, look, overrun
from tests.browser.conftest import Visit
from tests.factories import make_channel, make_feature, make_team, make_traffic
from tests.people import make_person

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
    overrun(feature, now - timedelta(minutes=1))
    burn(feature, now - timedelta(minutes=1))
    look(feature, now)
    return feature


def test_a_refresh_keeps_focus_scroll_and_open_rows_and_tells_a_changed_verdict_once(
    visit: Visit, feature: Feature
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/features/support-chat/")
    visit.draw_all_charts()
    numbers = page.locator("figure[data-chart] .chart-numbers").last
    numbers.locator("summary").click()
    link = page.locator("#milestones a").first
    link.focus()
    page.evaluate("scrollTo(0, 700); window.isSamePage = true")
    place = numbers.evaluate("element => element.getBoundingClientRect().top")
    verdict, said = page.locator("#verdict").inner_text(), page.locator("#announcer")
    expect(said).to_have_text("")

    make_traffic(feature, at=timezone.now(), count=9_000, over=0, milestone="first_token")

    expect(page.locator("#verdict")).not_to_have_text(verdict)
    expect(said).not_to_have_text("")
    assert page.evaluate("window.isSamePage")
    # Within a pixel: what is looked at stays where it is, whatever grew above it.
    assert numbers.evaluate("element => element.getBoundingClientRect().top") == pytest.approx(place, abs=1)
    expect(numbers).to_have_attribute("open", "")
    expect(link).to_be_focused()


def test_a_page_asks_for_nothing_while_it_is_hidden_paused_typed_into_or_of_the_past(
    visit: Visit, feature: Feature
) -> None:
    """By the browser's own clock, which is moved on: nothing here waits."""
    page, asked = visit.page, []
    page.on("request", lambda request: asked.append(request.url) if "hx-request" in request.headers else None)
    page.clock.install()
    visit.enter(EMAIL)
    visit.go(Incident.objects.get().get_absolute_url())

    def asks() -> bool:
        """Whether it does within more time than any pause between two refreshes."""
        page.mouse.move(5, 5)
        page.mouse.move(9, 9)
        asked.clear()
        page.clock.run_for(65_000)
        page.evaluate("1")  # what was asked for until now has been told
        return bool(asked)

    assert asks()
    page.locator("#note summary").click()
    note = page.get_by_label("Note (optional)")
    note.fill("rolling back")
    assert not asks()
    expect(note).to_have_value("rolling back")
    note.evaluate("element => element.blur()")
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    assert not asks()
    page.evaluate("delete document.hidden")
    page.get_by_role("button", name="Pause").click()
    assert not asks()
    with page.expect_request(lambda request: "hx-request" in request.headers):
        page.get_by_role("button", name="Resume").click()
    visit.go(f"/features/support-chat/?at={timezone.now():%Y-%m-%dT%H:%M:%SZ}")
    assert not asks()


@pytest.fixture
def phone(browser: Browser, visit: Visit) -> Page:
    """The visitor's tab on a phone."""
    visit.enter(EMAIL)
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    context.add_cookies(visit.page.context.cookies())  # type: ignore[arg-type]
    return context.new_page()


def test_a_thumb_finds_what_how_bad_since_when_and_what_to_do_and_scrolls_over_charts(
    feature: Feature, visit: Visit, phone: Page
) -> None:
    phone.goto(f"{visit.base}{Incident.objects.get().get_absolute_url()}")
    for told in ("Support chat", "first token", "since"):
        words = phone.locator("main").get_by_text(told).first
        expect(words).to_be_in_viewport()
    expect(phone.locator("#verdict")).to_contain_text("Open")
    expect(phone.locator("#verdict")).to_be_in_viewport()
    expect(phone.get_by_role("button", name="Acknowledge")).to_be_in_viewport()

    phone.goto(f"{visit.base}/features/support-chat/")
    chart = phone.locator("figure[data-state=drawn] .chart-plot").last
    phone.locator("figure[data-chart]").first.scroll_into_view_if_needed()
    chart.wait_for(state="attached")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    before, x, y = phone.evaluate("scrollY"), box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = phone.context.new_cdp_session(phone)
    for kind, points in (
        ("touchStart", [y]),
        *(("touchMove", [y - moved]) for moved in range(0, 320, 40)),
        ("touchEnd", []),
    ):
        touched = [{"x": x, "y": at} for at in points]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})
    phone.wait_for_function("before => scrollY > before + 100", arg=before)
    assert "from=" not in phone.url, "a swipe is no zoom"
    phone.context.close()


def tab_to(wanted: Locator) -> None:
    """Presses Tab until the control has the focus."""
    for _ in range(120):
        wanted.page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    expect(wanted).to_be_focused()


def test_the_keyboard_alone_declares_a_feature_changes_its_budget_and_silences_it(
    visit: Visit, feature: Feature
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/features/new/?kind=interactive_chat")
    tab_to(page.get_by_label("Name", exact=True))
    page.keyboard.type("Help desk")
    tab_to(page.get_by_role("button", name="Create feature", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Help desk")
    assert Feature.objects.filter(slug="help-desk").exists()

    visit.go("/features/support-chat/edit/")
    page.locator("#id_first_token-budget").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("3.2 s")
    tab_to(page.get_by_role("button", name="Save as version 2", exact=True))
    page.keyboard.press("Enter")
    expect(page.locator(".message")).to_contain_text("version 2")

    visit.go("/teams/assistants/silences/new/")
    tab_to(page.get_by_label("Feature: value", exact=True))
    page.keyboard.type("support-chat")
    tab_to(page.get_by_label("Reason", exact=True))
    page.keyboard.type("Deployment of v413")
    tab_to(page.get_by_role("button", name="Show what it mutes", exact=True))
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("Support chat")
    tab_to(page.get_by_role("button", name="Silence", exact=True))
    page.keyboard.press("Enter")
    expect(page.locator(".message")).to_contain_text("Silenced.")
    assert Silence.objects.get().reason == "Deployment of v413"


_TOPS = """
(() => {
  const top = (selector) => document.querySelector(selector)?.getBoundingClientRect().top;
  return [top("#verdict, h1"), top("figure[data-chart], .sparkline")];
})()
"""


def test_the_verdict_comes_before_every_chart_and_a_chart_has_summary_table_csv_and_png(
    visit: Visit, feature: Feature
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    found = []
    for address in ("/", "/features/support-chat/", Incident.objects.get().get_absolute_url()):
        visit.go(address)
        verdict, chart = page.evaluate(_TOPS)
        assert verdict < chart, address
        visit.draw_all_charts()
        for figure in page.locator("figure[data-chart]").all():
            name = figure.get_attribute("id")
            if not figure.locator(".chart-summary").inner_text().strip():
                found.append(f"{name} has no summary")
            if not figure.locator("[role=img]").get_attribute("aria-label"):
                found.append(f"{name} has no label")
            figure.locator(".chart-numbers > summary").click()
            expect(figure.locator(".table-scroll thead th").first).to_be_attached()
            csv = page.request.get(
                f"{visit.base}{figure.get_by_role('link', name='CSV').get_attribute('href')}"
            )
            if not csv.ok or "," not in csv.text():
                found.append(f"{name} has no CSV")
    assert found == []
    with page.expect_download() as download:
        page.locator("figure[data-chart]").first.get_by_role("button", name="PNG").click()
    assert download.value.suggested_filename.endswith(".png")


# What would be cut off on paper, and what has another ground than white or light letters.
_UNPRINTABLE = """
(() => {
  const shown = [...document.querySelectorAll("main, main *")]
    .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden"));
  const light = (color) => (color.match(/[\\d.]+/g) || []).slice(0, 3).every((part) => Number(part) > 150);
  const cut = shown.filter((one) => {
    const style = getComputedStyle(one);
    return style.overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1;
  });
  const pale = shown.filter((one) => one.childElementCount === 0 && one.textContent.trim() && light(getComputedStyle(one).color));
  const ground = getComputedStyle(document.body).backgroundColor;
  return [
    ...cut.map((one) => `is cut off: ${one.className} ${one.textContent.trim().slice(0, 40)}`),
    ...pale.map((one) => `is pale: ${one.className} ${one.textContent.trim().slice(0, 40)}`),
    ...(["rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"].includes(ground) ? [] : [`stands on ${ground}`]),
    ...(document.documentElement.scrollWidth > innerWidth ? ["is wider than the paper"] : []),
  ];
})()
"""


def test_a_report_is_printed_black_on_white_and_whole_also_from_a_dark_screen(
    visit: Visit, feature: Feature
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    # A4 within its margins, at 96 dots an inch.
    page.set_viewport_size({"width": 718, "height": 1000})
    page.emulate_media(media="print", color_scheme="dark")
    monday = timezone.now().date() - timedelta(days=timezone.now().weekday())
    visit.go(f"/teams/assistants/report/?period=week&start={monday}&zone=UTC")
    expect(page.locator("main")).to_contain_text("Support chat")
    assert page.evaluate(_UNPRINTABLE) == []
