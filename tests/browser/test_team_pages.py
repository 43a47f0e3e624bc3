"""A team's pages in a real browser: from an invitation in a mailbox to a key that works."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.core import mail
from django.utils import timezone
from playwright.sync_api import Browser, expect
from pytest_django import Settings

from budgets import invitations
from budgets.keys import create_key, revoke_key
from budgets.models import Batch, IngestKey, Membership, Team, User
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.factories import make_feature, make_key, make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "ada@example.com"
NEW = "new@example.com"
NEW_PASSWORD = "seven purple lamps"


@pytest.fixture
def team(settings: Settings, live_server: object) -> Team:
    """Assistants with a feature and an admin, in an installation that sends mail."""
    settings.EMAIL_IS_CONFIGURED = True
    settings.PUBLIC_URL = str(live_server)
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.ADMIN)
    make_feature(team=team, slug="support-chat", now=timezone.now())
    return team


def test_a_key_is_made_and_used_at_once_with_the_command_beside_it(visit: Visit, team: Team) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.enter(EMAIL)
    visit.go("/teams/assistants/keys/")
    expect(page.get_by_text("No key works")).to_be_visible()

    page.get_by_label("Name").fill("chat backend")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("heading", name="The key chat backend")).to_be_visible()
    page.get_by_role("button", name="Copy the command").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")

    # Pasted into a shell, unchanged.
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert '"accepted":1' in done.stdout.replace(" ", ""), done.stdout + done.stderr
    assert Batch.objects.get().team == team

    token = page.locator("#new-key").inner_text()
    page.reload()
    expect(page.locator("#new-key")).to_have_count(0)
    assert token not in page.content()
    assert IngestKey.objects.count() == 1
    expect(page.locator("table.keys")).to_contain_text("chat backend")

    page.get_by_role("link", name="Revoke … chat backend").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.locator(".message")).to_contain_text("Revoked.")
    again = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert "unauthorized" in again.stdout


def test_an_invitation_leads_from_the_mailbox_into_the_team(visit: Visit, team: Team) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go("/teams/assistants/")
    page.get_by_label("E-mail address").fill(NEW)
    page.get_by_label("Role", exact=True).select_option("editor")
    page.get_by_role("button", name="Invite").click()
    expect(page.locator(".message")).to_contain_text(f"A mail with a link is on its way to {NEW}.")
    expect(page.locator("#invited")).to_contain_text(NEW)

    page.locator("#account-menu summary").click()
    page.get_by_role("button", name="Log out").click()
    [sent] = mail.outbox
    link = re.search(r"http://\S+/invitations/\S+", str(sent.body))
    assert link
    page.goto(link[0])
    page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
    page.get_by_label("New password again").fill(NEW_PASSWORD)
    page.get_by_role("button", name="Make my account and join").click()

    expect(page.locator(".message")).to_contain_text("Welcome to Assistants.")
    expect(page.locator("table.people")).to_contain_text(NEW)
    expect(page.get_by_text("You are editor here.")).to_be_visible()
    assert Membership.objects.get(user__email=NEW).role == "editor"


def test_a_team_is_made_and_a_role_changed_by_the_keyboard(visit: Visit, team: Team) -> None:
    User.objects.create_superuser("root@example.com", PASSWORD)
    bob = make_person("bob@example.com", team=team)
    page = visit.page
    visit.enter("root@example.com")
    visit.go("/teams/")
    page.get_by_label("Name", exact=True).fill("")
    page.get_by_label("Name", exact=True).press_sequentially("Étude & On-call")
    expect(page.get_by_label("Name in addresses")).to_have_value("etude-on-call")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Étude & On-call")

    visit.go("/teams/assistants/")
    summary = page.locator(f"#role-of-{bob.pk} summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".message")).to_contain_text("bob@example.com is editor now.")


def test_on_a_phone_the_pages_of_a_team_are_a_menu_that_the_keyboard_opens_without_any_script(
    visit: Visit, team: Team, browser: Browser
) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    page = phone.new_page()
    page.goto(f"{visit.base}/teams/assistants/silences/")
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    navigation = page.get_by_role("navigation", name="Team")
    expect(navigation).to_have_count(1)
    summary = navigation.locator("summary")
    expect(summary).to_have_text("Alerting: Silences")
    box = navigation.bounding_box()
    assert box is not None
    assert box["height"] < 60, "one row, whatever there is to choose"
    expect(navigation.get_by_role("link")).to_have_count(0)
    summary.focus()
    page.keyboard.press("Enter")
    expect(navigation.get_by_role("link")).to_have_count(11)
    expect(navigation.get_by_role("link", name="Silences")).to_have_attribute("aria-current", "page")
    for _ in range(7):
        page.keyboard.press("Tab")
    expect(navigation.get_by_role("link", name="Channels")).to_be_focused()
    page.keyboard.press("Enter")
    expect(summary).to_have_text("Alerting: Channels")
    phone.close()


@pytest.mark.parametrize("width", [1280, 962])
def test_on_a_desk_the_pages_of_a_team_are_one_row(visit: Visit, team: Team, width: int) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    visit.enter(EMAIL)
    visit.go("/teams/assistants/schedules/")
    navigation = page.get_by_role("navigation", name="Team")
    expect(navigation.get_by_role("link")).to_have_count(11)
    expect(navigation.locator("[aria-current]")).to_have_text("On call")
    tops = {round(link.bounding_box()["y"]) for link in navigation.get_by_role("link").all()}  # type: ignore[index]
    assert len(tops) == 1


def test_a_form_that_is_sent_after_the_session_has_ended_is_asked_about_and_sent(
    visit: Visit, team: Team
) -> None:
    page = visit.page
    visit.go("/teams/assistants/")
    visit.log_in(EMAIL, PASSWORD)
    page.get_by_label("E-mail address").fill(NEW)
    page.get_by_label("Role", exact=True).select_option("editor")
    page.context.clear_cookies(name="session")
    page.get_by_role("button", name="Invite").click()

    expect(page.get_by_role("status").first).to_contain_text("Your session has ended.")
    assert NEW not in page.url
    assert Axe().run(page).response["violations"] == []
    visit.log_in(EMAIL, PASSWORD)
    expect(page.get_by_role("heading", level=1)).to_have_text("Logged in. Your form was not sent yet")
    expect(page.locator(".kept")).to_contain_text(NEW)
    expect(page.get_by_role("link", name="Leave it")).to_have_attribute("href", "/teams/assistants/")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="Send it now").click()
    expect(page.locator("#invited")).to_contain_text(NEW)


def test_an_open_menu_of_a_teams_pages_is_closed_by_escape_and_axe_finds_nothing_in_it(
    visit: Visit, team: Team
) -> None:
    page = visit.page
    page.set_viewport_size({"width": 390, "height": 844})
    visit.enter(EMAIL)
    visit.go("/teams/assistants/keys/")
    summary = page.locator("#team-menu summary")
    summary.click()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#team-menu a").first.focus()
    page.keyboard.press("Escape")
    expect(page.locator("#team-menu")).not_to_have_attribute("open", "")
    expect(summary).to_be_focused()


def test_axe_finds_nothing_nothing_scrolls_sideways_and_every_target_can_be_hit(
    visit: Visit, team: Team
) -> None:
    now = timezone.now()
    User.objects.create_superuser("root@example.com", PASSWORD)
    member = make_person("a-rather-long-name-of-somebody@subdomain.of.example.com", team=team)
    key, _ = make_key(team, now=now)
    old, _ = create_key(team_slug=team.slug, name="old " * 20, scopes=["read"], actor="x", now=now)
    revoke_key(key_id=old.pk, actor="x", now=now)
    invited = invitations.invite(team=team, email=NEW, role="viewer", actor=EMAIL, now=now)
    link = invitations.link_of(invited.invitation).removeprefix(visit.base)
    expired = invitations.invite(
        team=team, email="late@example.com", role="viewer", actor=EMAIL, now=now - timedelta(days=8)
    )
    page, found = visit.page, []

    def look(address: str) -> None:
        found.extend(faults_of(page, address))

    for address in (
        link,
        invitations.link_of(expired.invitation).removeprefix(visit.base),
    ):
        visit.go(address)
        look(address)
    visit.enter("root@example.com")
    for address in (
        "/teams/assistants/",
        f"/teams/assistants/members/{member.pk}/remove/",
        "/teams/assistants/keys/",
        f"/teams/assistants/keys/{key.pk}/revoke/",
        "/teams/assistants/audit/?action=key.created&actor=nobody",
        link,
    ):
        visit.go(address)
        look(address)
    visit.go("/teams/assistants/keys/")
    page.get_by_label("Name").fill("x")
    page.get_by_role("button", name="Make the key").click()
    look("a new key")
    visit.go("/teams/assistants/")
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_role("button", name="Invite").click()
    expect(page.locator(".field-error")).to_be_visible()
    look("a wrong invitation")

    # The browser tells of answers that are not 200; that is what was asked for.
    visit.complaints[:] = [one for one in visit.complaints if "Failed to load resource" not in one]
    assert found == [], "\n".join(found)
