"""The budget editor as product managers use it: with a mouse, with the keyboard, on a phone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from budgets.contexts.editor import current_document
from budgets.models import Feature, Membership, Team
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.budgets.typed_numbers import MILLISECONDS, UNREADABLE_MILLISECONDS
from tests.factories import make_feature, make_team, make_traffic, redeclare
from tests.people import make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "product@example.com"


@pytest.fixture
def team() -> Team:
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.EDITOR)
    return team


@pytest.fixture
def feature(team: Team) -> Feature:
    """Support chat, measured for some hours, with a component that nobody declared."""
    now = timezone.now()
    feature = make_feature(team=team, slug="support-chat", now=now - timedelta(hours=6))
    at = now - timedelta(hours=3)
    make_traffic(feature, at=at, count=200, over=10, over_ms=4096.0, milestone="first_token", now=now)
    make_traffic(feature, at=at, count=200, over=20, over_ms=2048.0, component="tools", now=now)
    make_traffic(feature, at=at, count=20, over=0, component="cache", now=now)
    return feature


def come_in(visit: Visit, address: str) -> Page:
    visit.enter(EMAIL)
    visit.go(address)
    return visit.page


def expect_refusals(visit: Visit, *statuses: int) -> None:
    """The browser tells of answers that are no success; these were asked for."""
    told = [f"status of {status}" for status in statuses]
    visit.complaints[:] = [each for each in visit.complaints if not any(one in each for one in told)]


def words(page: Page, milestone: str) -> str:
    return (
        page.locator(f'[data-sum="{milestone}"] [data-words]').inner_text().replace("\N{NO-BREAK SPACE}", " ")
    )


def test_a_feature_is_created_refused_mended_saved_and_edited(visit: Visit, team: Team) -> None:
    page = come_in(visit, "/")
    page.get_by_role("link", name="Create feature").click()
    page.get_by_role("link", name="Interactive chat").click()

    page.get_by_label("Name").fill("Help désk: EU")
    expect(page.get_by_label("Slug")).to_have_value("help-desk-eu")
    assert words(page, "first_token") == "✓ unallocated 0 ms"
    assert words(page, "complete") == "◇ unallocated 5000 ms"

    tools = page.get_by_label("Allocation, ms").nth(2)
    tools.fill("1 s")
    assert words(page, "first_token") == "✕ 200 ms over"
    expect(page.locator("[data-share]").nth(2)).to_have_text("33.3\N{NO-BREAK SPACE}%")
    expect(page.locator("#preview")).to_contain_text("To mend first")

    page.get_by_role("button", name="Create feature").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved: 1 thing needs mending")
    expect(page.locator("#id_first_token-sum_error")).to_contain_text(
        "200 ms over first token's latency budget"
    )
    expect(page.locator("#problems-heading")).to_be_focused()
    expect(page.get_by_label("Name")).to_have_value("Help désk: EU")
    expect(tools).to_have_value("1 s")
    expect_refusals(visit, 400)

    tools.fill("0.7 s")
    assert words(page, "first_token") == "◇ unallocated 100 ms"
    page.get_by_role("button", name="Create feature").click()
    expect(page.locator(".message")).to_contain_text("Help désk: EU is declared.")
    feature = Feature.objects.get(slug="help-desk-eu")
    assert current_document(feature)["latency_budgets"][0]["allocations"]["tools"] == 700

    expect(page).to_have_url(f"{visit.base}/features/help-desk-eu/start/")
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Help désk: EU").click()
    page.get_by_role("link", name="Edit budgets").first.click()
    page.locator("#id_first_token-budget").fill("2900")
    expect(page.locator("#preview")).to_contain_text("First token: latency budget")
    expect(page.locator("#preview del")).to_have_text("3000\N{NO-BREAK SPACE}ms")
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.locator(".message")).to_contain_text("First token: version 2, in force from")

    page.get_by_role("link", name="Versions").click()
    expect(page.locator("#first_token-2")).to_contain_text("latency budget")
    expect(page.locator("#first_token-2 ins")).to_have_text("2900\N{NO-BREAK SPACE}ms")


def test_rows_come_go_and_move_without_a_reload(visit: Visit, feature: Feature) -> None:
    page = come_in(visit, "/features/support-chat/edit/")
    page.evaluate("window.isSamePage = true")
    names = page.locator("[data-rows] [data-name]")

    def order() -> list[str]:
        return [name.input_value() for name in names.all()]

    page.get_by_role("button", name="Move tools up").click()
    page.get_by_role("button", name="Move tools up").press("Enter")
    assert order() == ["tools", "model", "retrieval", "overhead"]
    # Up is gone at the edge, so the keyboard stands on down.
    expect(page.get_by_role("button", name="Move tools down")).to_be_focused()

    page.get_by_role("button", name="Add cache").click()
    expect(page.get_by_label("Allocation, ms").nth(4)).to_be_focused()
    expect(page.locator("[data-row]").nth(4)).to_contain_text("n = 20")
    page.get_by_role("button", name="Remove retrieval").click()
    page.get_by_role("button", name="Add a component").click()
    page.keyboard.type("guardrails")
    page.get_by_label("Allocation, ms").nth(4).fill("150")
    assert order() == ["tools", "model", "overhead", "cache", "guardrails"]
    assert words(page, "first_token") == "◇ unallocated 250 ms"

    names.nth(1).fill("llm")
    expect(page.locator("[data-row]").nth(1)).to_contain_text("A new name is a new component")

    page.get_by_role("button", name="Save as version 2").click()
    expect(page.locator(".message")).to_contain_text("Saved.")
    document = current_document(feature)
    assert document["components"] == ["tools", "llm", "overhead", "cache", "guardrails"]
    assert document["latency_budgets"][0]["allocations"] == {
        "tools": 800,
        "llm": 1500,
        "overhead": 300,
        "guardrails": 150,
    }


def test_the_browser_reads_milliseconds_as_the_server_does(visit: Visit, feature: Feature) -> None:
    page = come_in(visit, "/features/support-chat/edit/")
    budget = page.locator("#id_complete-budget")
    page.locator('[data-milestone="complete"] [data-on]').check()
    page.locator('[data-milestone="first_token"] [data-on]').uncheck()
    shown = page.locator('[data-sum="complete"] [data-budget]')
    found = {}
    for typed in [*MILLISECONDS, *UNREADABLE_MILLISECONDS]:
        # As a paste would: longer than what one can type.
        budget.evaluate(
            "(input, text) => { input.value = text; input.dispatchEvent(new Event('input', {bubbles: true})); }",
            typed,
        )
        text = shown.text_content() or ""
        found[typed] = text.removesuffix("\N{NO-BREAK SPACE}ms").replace(",", "")
    assert found == MILLISECONDS | dict.fromkeys(UNREADABLE_MILLISECONDS, "")


def test_the_preview_follows_the_typing_and_keeps_the_cursor(visit: Visit, feature: Feature) -> None:
    page = come_in(visit, "/features/support-chat/edit/")
    expect(page.locator("#preview")).to_contain_text("95.0 % good".replace(" %", "\N{NO-BREAK SPACE}%"))
    expect(page.locator("#preview")).to_contain_text("Would be broken")
    replay = page.locator("[data-replay]")
    expect(replay).to_contain_text("1 ticket")
    replay.get_by_text("When").click()

    budget = page.locator("#id_first_token-budget")
    budget.fill("")
    budget.press_sequentially("5 s")

    expect(page.locator("#preview")).to_contain_text("Would be kept")
    expect(page.get_by_role("button", name="Save as version 2")).to_be_visible()
    expect(replay).to_contain_text("No page, no ticket")
    expect(replay).to_contain_text("Under version 1, as it was judged: 1 ticket, open for")
    expect(budget).to_be_focused()
    expect(page.locator("#announcer")).to_contain_text("First token: unallocated 2000 ms")


def test_two_people_edit_and_the_later_one_takes_over_what_they_did_not_touch(
    visit: Visit, feature: Feature
) -> None:
    page = come_in(visit, "/features/support-chat/edit/")
    redeclare(feature, description="Theirs", name="Support chat EU", now=timezone.now())
    page.get_by_label("Name").fill("My chat")
    expect(page.locator("#preview")).to_contain_text("Somebody else has saved this feature meanwhile.")

    page.locator("[data-save]").click()
    expect(page.locator("#conflict-heading")).to_be_focused()
    expect_refusals(visit, 409)
    expect(page.locator("#conflict")).to_contain_text("a test")
    expect(page.get_by_role("checkbox", name="Description")).to_be_checked()
    expect(page.get_by_role("checkbox", name="Name")).not_to_be_checked()
    page.get_by_role("button", name="Take the ticked changes").click()
    expect(page.locator(".message")).to_contain_text("Nothing is saved yet.")
    page.locator("[data-save]").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("My chat")
    document = current_document(feature)
    assert (document["name"], document["description"]) == ("My chat", "Theirs")


def test_axe_finds_nothing_nothing_scrolls_sideways_and_every_target_can_be_hit(
    visit: Visit, feature: Feature
) -> None:
    found: list[str] = []
    page = come_in(visit, "/")

    def look(name: str) -> None:
        found.extend(faults_of(page, name))

    visit.go("/features/new/?kind=interactive_chat")
    look("a template")
    visit.go("/features/support-chat/edit/")
    page.get_by_label("Allocation, ms").nth(2).fill("fast")
    page.get_by_label("Allocation, ms").nth(1).fill("9 s")
    page.locator("[data-save]").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look("refused")
    page.get_by_label("Allocation, ms").nth(2).fill("100")
    page.get_by_label("Allocation, ms").nth(1).fill("100")
    redeclare(feature, name="Theirs", now=timezone.now())
    page.locator("[data-save]").click()
    expect(page.locator("#conflict")).to_be_visible()
    look("conflict")
    expect_refusals(visit, 400, 409)
    assert found == [], "\n".join(found)
