"""A feature's runbook_url stands in every message of every kind of channel, and on the incident's page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import parse_qs

import pytest

from alerts.addresses import parse_networks
from alerts.channels import KINDS, Message
from alerts.wording import Story
from tests.alerts import unpaged
from tests.alerts.services import Services, services
from tests.alerts.test_email_channel import INCIDENT, make_message
from tests.alerts.test_incident_pages import page, signed_in
from tests.alerts.test_service_channels import config_of
from tests.factories import NOW, SECRET, make_feature, make_team
from tests.mail_servers import MailServer
from tests.people import make_person
from tests.receivers import Reply, WebhookReceiver

__all__ = ["services"]

LOCAL = parse_networks(["127.0.0.1/32"])
RUNBOOK = "https://wiki.example.com/chat?a=1&b=2#first(steps)"
LONG = f"https://wiki.example.com/{'a-long-name/' * 164}"
STEPS = [
    "opened",
    "updated",
    "repeated",
    "reopened",
    "acknowledged",
    "reminder",
    "unacknowledged",
    "resolved",
]
SERVICES = ["slack", "teams", "discord", "telegram", "pagerduty", "opsgenie"]
assert 1900 < len(LONG) <= 2000


def message_of(step: str, runbook_url: str = RUNBOOK) -> Message:
    story = Story(step, "Support chat", step_words="Somebody did it", lasted_s=300)  # type: ignore[arg-type]
    return make_message(
        type=f"incident.{step}", story=story, incident={**INCIDENT, "runbook_url": runbook_url}
    )


def send(kind: str, config: dict[str, Any], message: Message) -> None:
    KINDS[kind].send(config, message, now=datetime.now(tz=UTC), allowed_networks=LOCAL)


def links_in(text: str) -> str:
    """What was posted, with its addresses as whoever follows them gets them."""
    return unescape(text).replace("%28", "(").replace("%29", ")")


@pytest.mark.parametrize("runbook_url", [RUNBOOK, LONG], ids=["short", "long"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", SERVICES)
def test_a_service_is_told_where_the_runbook_is(
    services: Services, kind: str, step: str, runbook_url: str
) -> None:
    send(kind, config_of(kind, services), message_of(step, runbook_url))
    document = json.loads(services.requests[-1].body)
    if kind == "pagerduty" and step in ("acknowledged", "resolved"):
        # It takes no more than the key of the alert, which has had the link since it opened.
        assert "links" not in document
        return
    assert runbook_url in links_in(json.dumps(document, ensure_ascii=False))
    if kind == "opsgenie" and "details" in document:
        assert document["details"]["runbook_url"] == runbook_url
    if kind == "pagerduty":
        assert {"href": runbook_url, "text": "Runbook"} in document["links"]


@pytest.mark.parametrize("step", STEPS)
def test_a_webhook_is_told_where_the_runbook_is(webhook_receiver: WebhookReceiver, step: str) -> None:
    send("webhook", {"url": webhook_receiver.url, "secret": SECRET}, message_of(step))
    assert webhook_receiver.requests[0].json()["data"]["incident"]["runbook_url"] == RUNBOOK


@pytest.mark.parametrize("step", STEPS)
def test_an_alertmanager_is_told_where_the_runbook_is(webhook_receiver: WebhookReceiver, step: str) -> None:
    send("alertmanager", {"url": f"http://127.0.0.1:{webhook_receiver.port}"}, message_of(step))
    (alert,) = webhook_receiver.requests[0].json()
    assert alert["annotations"]["runbook_url"] == RUNBOOK


@pytest.mark.parametrize("step", STEPS)
def test_a_service_by_apprise_is_told_where_the_runbook_is(
    webhook_receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from apprise.plugins.pushover import NotifyPushover

    # Its host is fixed in the library.
    monkeypatch.setattr(NotifyPushover, "notify_url", webhook_receiver.url)
    webhook_receiver.answer_always(Reply(200, {"Content-Type": "application/json"}, b'{"status": 1}'))
    send("apprise", {"url": f"pover://{'u' * 30}@{'a' * 30}"}, message_of(step))
    sent = parse_qs(webhook_receiver.requests[0].body.decode())
    assert f"Runbook: {RUNBOOK}" in sent["message"][0]


@pytest.mark.parametrize("step", STEPS)
def test_a_mail_leads_to_the_runbook_in_text_and_in_html(mail_server: MailServer, step: str) -> None:
    send("email", {"to": ["oncall@example.com"]}, message_of(step))
    (mail,) = mail_server.mails
    assert f"Runbook: {RUNBOOK}" in mail.part("plain")
    assert f'href="{RUNBOOK.replace("&", "&amp;")}"' in mail.part("html")


def test_every_kind_of_channel_is_looked_at_here() -> None:
    assert {*SERVICES, "webhook", "alertmanager", "apprise", "email"} == set(KINDS)


@pytest.mark.django_db
@pytest.mark.usefixtures("plain_static_files")
def test_the_incidents_page_leads_to_the_runbook() -> None:
    team = make_team()
    feature = make_feature(team=team, runbook_url=RUNBOOK)
    incident = unpaged.open_incident(feature, now=NOW)
    client = signed_in(make_person("viewer@example.com", team=team))
    html = page(client, incident.get_absolute_url())
    assert f'<a href="{RUNBOOK.replace("&", "&amp;")}" rel="noreferrer">Runbook</a>' in html
