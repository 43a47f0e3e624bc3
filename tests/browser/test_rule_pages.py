from __future__ import annotations

from collections.abc import Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Page, expect

from alerts.models import AlertRule
from budgets.models import Membership
from tests.alerts.scenes import burn, look, overrun
from tests.browser.conftest import Visit
from tests.browser.test_pages import _SMALL_TARGETS
from tests.factories import make_feature, make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LIST = "/features/support-chat/rules/"


def faults(page: Page, what: str, *, themes: Sequence[str] = ("light", "dark")) -> list[str]:
    """What is wrong with a page as it stands, at both widths: by axe, wider than the screen, too small to hit."""
    found = []
    for theme in themes:
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
            for violation in Axe().run(page).response["violations"]:
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                found.append(f"{what} {theme} {width}: {violation['id']}: {violation['help']} {nodes}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                found.append(f"{what} is {wide} px wide at {width}")
            found.extend(f"{what} at {width}: {one} is too small" for one in page.evaluate(_SMALL_TARGETS))
    return found


def test_an_editor_studies_a_rule_before_saving_it_and_axe_finds_nothing_on_any_of_its_pages(
    visit: Visit,
) -> None:
    page = visit.page
    team = make_team(slug="assistants", name="Assistants")
    make_person("editor@example.com", team=team, role=Membership.Role.EDITOR)
    now = timezone.now()
    feature = make_feature(team=team, slug="support-chat", now=now)
    burn(feature, now)
    look(feature, now)
    AlertRule.objects.create(feature=feature, name="x" * 200, kind="no_data", is_enabled=False)

    visit.go(LIST)
    visit.log_in("editor@example.com", PASSWORD)
    expect(page.locator("main")).to_contain_text("both windows burn faster than the limit")
    found = faults(page, "the list")
    visit.go(f"{LIST}new/?kind=burn_rate")
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Study").click()
    expect(page.locator("#study")).to_contain_text("In the last 28 days it would have opened")
    expect(page.get_by_label("Name")).to_have_value("mine")
    found += faults(page, "a study")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".message")).to_contain_text("Saved mine.")
    found += faults(page, "a rule")
    assert found == [], "\n".join(found)


def test_a_study_of_every_kind_is_readable_with_little_data_and_with_none(visit: Visit) -> None:
    page, found = visit.page, []
    team = make_team(slug="assistants", name="Assistants")
    make_person("editor@example.com", team=team, role=Membership.Role.EDITOR)
    now = timezone.now()
    make_feature(team=team, slug="empty", now=now)
    feature = make_feature(team=team, slug="support-chat", now=now)
    burn(feature, now)
    overrun(feature, now)
    overrun(feature, now, component="never-declared-and-with-a-name-as-long-as-nobody-would-give-it" * 2)
    visit.go(LIST)
    visit.log_in("editor@example.com", PASSWORD)
    for slug, themes in (("support-chat", ("light", "dark")), ("empty", ("dark",))):
        for number, kind in enumerate(AlertRule.Kind.values):
            page.set_viewport_size({"width": 1280, "height": 900})
            visit.go(f"/features/{slug}/rules/new/?kind={kind}")
            if kind == "threshold":
                page.get_by_label("Limit (ms)").fill("700")
            page.get_by_role("button", name="Study").click()
            expect(page.locator("#study")).to_be_visible()
            # Every kind is of one frame: each in one scheme, both schemes by turns.
            found += faults(page, f"{kind} of {slug}", themes=[themes[number % len(themes)]])
        page.set_viewport_size({"width": 1280, "height": 900})
        visit.go(f"/features/{slug}/rules/")
        found += faults(page, f"the list of {slug}")
    assert found == [], "\n".join(found)
