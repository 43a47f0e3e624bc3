"""Five minutes of a newcomer: an empty installation, a feature, a pasted command, green; and somebody to tell."""

from __future__ import annotations

import re
import subprocess
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from budgets import rollups
from budgets.models import Membership
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.factories import make_feature, make_team
from tests.people import make_person
from tests.receivers import WebhookReceiver, webhook_receiver

__all__ = ["webhook_receiver"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WITHIN_MS = 5000


def paste(page: Page, which: str) -> str:
    """What a shell answers to the command as it stands on the page."""
    command = page.locator(f"#{which}").text_content()
    assert command
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrival(page: Page) -> Locator:
    return page.locator("#arrival .verdict-lead")


def test_from_an_empty_installation_to_a_green_feature_and_a_tested_channel(
    visit: Visit, settings: LazySettings, webhook_receiver: WebhookReceiver
) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]
    page, printed = visit.page, StringIO()
    call_command("ensure_admin", stdout=printed)  # what `make serve` does, and prints
    login = re.search(r"Log in as (\S+) with password (\S+)", printed.getvalue())
    assert login is not None

    # The overview leads to a team, the team to its first feature, and the kind fills the form in.
    visit.go("/")
    visit.log_in(*login.groups())
    page.get_by_role("link", name="Make a team").click()
    page.get_by_label("Name", exact=True).fill("Assistants")
    page.get_by_role("button", name="Make the team").click()
    chat = page.locator(".kind", has_text="AI chat")
    expect(chat).to_contain_text("3\N{NO-BREAK SPACE}s")
    expect(chat).to_contain_text("8\N{NO-BREAK SPACE}s")
    chat.get_by_role("link").click()
    page.get_by_label("Name", exact=True).fill("Support chat")
    page.get_by_role("button", name="Create feature").click()

    # A key, a command, and what it sends arrives by itself.
    expect(page.get_by_role("heading", level=1)).to_have_text("Start measuring Support chat")
    expect(arrival(page)).to_have_text("Waiting for the first measurement\N{NO-BREAK SPACE}…")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#new-key")).to_contain_text("ld_")
    page.evaluate("window.isSamePage = true")
    assert '"accepted":1' in paste(page, "curl")
    expect(arrival(page)).to_contain_text(
        "Received 1.84\N{NO-BREAK SPACE}s first token – within its latency budget of 3\N{NO-BREAK SPACE}s",
        timeout=WITHIN_MS,
    )
    expect(page.locator("#arrival .state-ok")).to_contain_text("✓")
    expect(page).to_have_title("✓ Received – Support chat")
    assert page.evaluate("window.isSamePage"), "it turned without a reload"
    expect(page.locator("#new-key")).to_contain_text("ld_")

    # The feature page, honest about how little that is. A worker rolls up; here it is the test.
    while rollups.roll_up(now=timezone.now()).is_more:
        pass
    page.get_by_role("link", name="Open Support chat").click()
    expect(page.locator("#verdict")).to_contain_text("n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}1: too few")
    expect(page.locator("#tiles")).to_contain_text("1 good of 1")
    page.go_back()

    # Somebody is told, and the test button says that it works.
    page.get_by_role("link", name="Add a channel").click()
    page.get_by_label("Name", exact=True).fill("on-call")
    page.get_by_label("URL").fill(webhook_receiver.url)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator(".message")).to_contain_text("Delivered")
    visit.go("/features/support-chat/start/")
    expect(page.locator("#be-told")).to_contain_text("on-call")
    expect(page.get_by_role("link", name="Test on-call")).to_be_visible()


def test_the_start_page_tells_what_is_wrong_and_what_arrived_on_a_phone_and_in_the_dark(visit: Visit) -> None:
    team = make_team(slug="assistants", name="Assistants")
    make_person("ada@example.com", team=team, role=Membership.Role.ADMIN)
    make_feature(team=team, slug="support-chat", name="x" * 200, now=timezone.now())
    page = visit.page
    found: list[str] = []

    def look(what: str) -> None:
        page.evaluate("document.querySelectorAll('main details').forEach((each) => (each.open = true))")
        found.extend(faults_of(page, what))

    visit.enter("ada@example.com")
    visit.go("/features/support-chat/start/")
    look("waiting")
    page.get_by_role("button", name="Make a key").click()

    # What is wrong says so by itself, and so does what is right.
    right = page.locator("#curl").text_content()
    assert right
    for wrong, said in (("-1.84", "duration_ms must be ≥ 0, got -1.84."), ('"soon"', "duration_ms")):
        command = right.replace('"duration_ms": 1840', f'"duration_ms": {wrong}')
        subprocess.run(["bash", "-c", command], check=True, capture_output=True)
        expect(arrival(page)).to_contain_text(said, timeout=WITHIN_MS)
        expect(page.locator("#arrival")).to_contain_text("measurements[0]")
    look("rejected")
    assert '"accepted":1' in paste(page, "python")
    expect(arrival(page)).to_contain_text("within its latency budget", timeout=WITHIN_MS)
    expect(page).to_have_title(re.compile("^✓ Received"))
    look("received")
    assert found == [], "\n".join(found)
