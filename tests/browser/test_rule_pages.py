from __future__ import annotations

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from alerts.models import AlertRule
from budgets.models import Membership
from tests.alerts.scenes import burn, look, overrun
from tests.browser.conftest import Visit
from tests.browser.faults import EVERYWHERE, Theme, faults_of
from tests.factories import make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LIST = "/features/support-chat/rules/"


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

    visit.enter("editor@example.com")
    visit.go(LIST)
    expect(page.locator("main")).to_contain_text("both windows burn faster than the limit")
    found = faults_of(page, "the list", at=EVERYWHERE)
    visit.go(f"{LIST}new/?kind=burn_rate")
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Study").click()
    expect(page.locator("#study")).to_contain_text("In the last 28 days it would have opened")
    expect(page.get_by_label("Name")).to_have_value("mine")
    found += faults_of(page, "a study", at=EVERYWHERE)
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".message")).to_contain_text("Saved mine.")
    found += faults_of(page, "a rule", at=EVERYWHERE)
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
    visit.enter("editor@example.com")
    visit.go(LIST)
    both: tuple[Theme, ...] = ("light", "dark")
    for slug, themes in (("support-chat", both), ("empty", both[1:])):
        for number, kind in enumerate(AlertRule.Kind.values):
            visit.go(f"/features/{slug}/rules/new/?kind={kind}")
            if kind == "threshold":
                page.get_by_label("Limit (ms)").fill("700")
            page.get_by_role("button", name="Study").click()
            expect(page.locator("#study")).to_be_visible()
            # Every kind is of one frame: each in one scheme and at one width, by turns.
            at = (themes[number % len(themes)], (1280, 390)[number % 2])
            found += faults_of(page, f"{kind} of {slug}", at=[at])
        visit.go(f"/features/{slug}/rules/")
        found += faults_of(page, f"the list of {slug}", at=EVERYWHERE)
    assert found == [], "\n".join(found)
