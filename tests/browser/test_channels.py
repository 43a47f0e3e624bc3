from __future__ import annotations

import pytest
from django.conf import LazySettings
from django.utils import timezone
from playwright.sync_api import expect

from alerts.channels import KINDS
from alerts.models import Channel, LivingAlert
from budgets.models import Membership, Team, User
from tests.alerts.test_incident_pages import open_one
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.factories import make_channel, make_feature, make_team
from tests.people import make_person
from tests.receivers import Reply, WebhookReceiver, webhook_receiver

__all__ = ["webhook_receiver"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "editor@example.com"
LIST = "/teams/assistants/channels/"


@pytest.fixture
def team(settings: LazySettings) -> Team:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.EDITOR)
    return team


def test_an_editor_makes_a_webhook_tests_it_and_reads_what_went_wrong(
    visit: Visit, team: Team, webhook_receiver: WebhookReceiver
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go(LIST)
    expect(page.locator("main")).to_contain_text("Nobody is told of this team's incidents")
    page.get_by_role("link", name="New channel").click()

    page.get_by_label("Name").fill("on-call")
    page.get_by_label("URL").fill("ftp://hooks.example.com")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#id_url_error")).to_contain_text("must start with https:// or http://")
    expect(page.get_by_label("Name")).to_have_value("on-call")
    # The browser tells of the form that was refused; that is what was asked for.
    visit.complaints.clear()

    page.get_by_label("URL").fill(webhook_receiver.url)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#new-secret")).to_contain_text("whsec_")
    expect(page).to_have_url(f"{visit.base}{LIST}{Channel.objects.get().pk}/")

    webhook_receiver.answer(Reply(200, body=b"thank you"))
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator(".message")).to_contain_text("Delivered")
    expect(page.locator("#new-secret")).to_have_count(0)
    test = page.locator("#test")
    expect(test.locator("li").first).to_contain_text("Firing message")
    expect(test.locator("li").first).to_contain_text("HTTP 200")
    expect(test).to_contain_text("thank you")
    expect(test.locator("li").last).to_contain_text("HTTP 204")

    webhook_receiver.answer(Reply(500, body=b"no route for you"))
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("alert")).to_contain_text("Not delivered. The receiver answered 500.")
    expect(test).to_contain_text("no route for you")
    expect(page.locator(".channel-log > li")).to_have_count(3)

    visit.go(LIST)
    expect(page.locator("tbody tr")).to_contain_text("The receiver answered 500.")


def test_axe_finds_nothing_on_the_pages_of_channels_and_nothing_scrolls_sideways(
    visit: Visit, team: Team, webhook_receiver: WebhookReceiver
) -> None:
    page, found = visit.page, []
    make_channel(team, name="x" * 200, min_severity="page", is_enabled=False)
    Channel.objects.create(team=team, name="mail", kind="email", config={"to": ["oncall@example.com"]})
    make_channel(team, name="دعم المحادثة السريعة")
    channel = make_channel(team, name="on-call", url=webhook_receiver.url)
    alertmanager = Channel.objects.create(
        team=team,
        owner=User.objects.get(email=EMAIL),
        name="alertmanager",
        kind="alertmanager",
        config={"url": "https://alertmanager.example.com", "authorization": "Bearer am-token"},
    )
    LivingAlert.objects.create(
        incident=open_one(make_feature(team=team)),
        channel=alertmanager,
        next_at=timezone.now(),
        sent_at=timezone.now(),
        error="a-very-long-word-" * 20,
    )
    webhook_receiver.answer(Reply(200, body=b"a" * 3000), Reply(503, body=b"<p>moving</p>\n" * 40))
    visit.enter(EMAIL)
    visit.go(f"{LIST}{channel.pk}/")
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_role("alert")).to_contain_text("Not delivered")
    for path in (
        "",
        "new/",
        *(f"new/?kind={kind}" for kind in KINDS),
        f"{alertmanager.pk}/",
        *(f"{channel.pk}/{part}" for part in ("", "secret/", "delete/")),
    ):
        visit.go(f"{LIST}{path}")
        for details in page.locator("main details:not(.menu)").all():
            details.locator("summary").first.click()
        found += faults_of(page, path)
    assert found == [], "\n".join(found)
