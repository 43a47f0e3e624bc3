"""A mail as its reader and their mail server see it, and what becomes of one that is refused."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from alerts import incidents
from alerts.channels import InvalidConfig, Message, email
from alerts.incidents import Finding, Target
from alerts.models import Channel, DeliveryAttempt, Notification
from alerts.notifications import claim_due, deliver
from alerts.outbound import Answer, DeliveryError
from alerts.wording import Figures, Story
from budgets import formats
from budgets.models import Feature, Team
from budgets.zones import zone_of
from tests.factories import NOW, make_feature, make_team
from tests.mail_servers import CLOSE, DRIP, HANG, MailServer, use_mail_server

TO = ["oncall@example.com", "kim@example.com"]
FIGURES = Figures(p99_ms=4200, limit_ms=3000, window="1h", burn_rate=15.2, remaining_ratio=0.11)
INCIDENT = {
    "id": 7,
    "feature": "support-chat",
    "environment": "production",
    "milestone": "first_token",
    "component": None,
    "severity": "page",
    "rule": "burn_rate 1h/5m",
    "summary": "Support chat, first token: p99 4.2 s of 3 s.",
    "cause": {"component": "tools", "allocated_ms": 800, "observed_ms": 2100},
    "burn_rate": 15.2,
    "runbook_url": "https://wiki.example.com/chat?a=1&b=2",
    "opened_at": "2026-11-21T20:00:00Z",
    "url": "https://latency.example.com/incidents/7/",
}


def make_message(**overrides: Any) -> Message:
    values = {
        "message_id": "4b1c2f0e-8f3d-4a5b-9c6d-7e8f9a0b1c2d",
        "type": "incident.opened",
        "timestamp": datetime(2026, 11, 21, 20, 0, 3, tzinfo=UTC),
        "incident": INCIDENT,
        "story": Story("opened", "Support chat", figures=FIGURES),
        "thread_id": "4b1c2f0e-8f3d-4a5b-9c6d-7e8f9a0b1c2d",
        "channel": "pager",
    }
    return Message(**{**values, **overrides})


def send(message: Message | None = None, *, to: list[str] = TO, **arguments: Any) -> Answer:
    return email.send(
        {"to": to}, message or make_message(), now=datetime.now(tz=UTC), allowed_networks=(), **arguments
    )


# -- What arrives -----------------------------------------------------------------------------------


def test_a_mail_arrives_at_every_address_with_text_and_html(mail_server: MailServer) -> None:
    answer = send()
    (mail,) = mail_server.mails
    assert (mail.sender, mail.recipients) == ("alerts@latency.example.com", tuple(TO))
    message = mail.message
    assert mail.subject == "✕ Support chat, first token: p99 4.20 s of 3 s"
    assert message["To"] == ", ".join(TO)
    assert message["From"] == "Latency Dashboard <alerts@latency.example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    for kind in ("plain", "html"):
        for said in ("Burning 15.2× over 1 h", "21 Nov 2026, 20:00 UTC", "11.0 % of the error budget left"):
            assert said in mail.part(kind), (kind, said)
    assert "https://latency.example.com/incidents/7/" in mail.part("plain")
    assert 'href="https://wiki.example.com/chat?a=1&amp;b=2"' in mail.part("html")
    assert (answer.status, answer.excerpt) == (250, "250 2.0.0 queued as 4XyZ")
    assert answer.duration_ms > 0


def test_the_steps_of_an_incident_are_one_conversation(mail_server: MailServer) -> None:
    send()
    for number, step in enumerate(("acknowledged", "resolved")):
        story = Story(step, "Support chat", step_words="Recovered")  # type: ignore[arg-type]
        send(make_message(message_id=f"later-{number}", type=f"incident.{step}", story=story))
    opened, *followers = [mail.message for mail in mail_server.mails]
    assert opened["Message-ID"] == "<4b1c2f0e-8f3d-4a5b-9c6d-7e8f9a0b1c2d@latency.example.com>"
    assert opened["References"] is None
    for follower in followers:
        assert follower["In-Reply-To"] == follower["References"] == opened["Message-ID"]
    assert len({each["Message-ID"] for each in (opened, *followers)}) == 3


def test_a_retry_is_the_same_mail(mail_server: MailServer) -> None:
    send()
    send()
    first, second = [mail.message for mail in mail_server.mails]
    assert first["Message-ID"] == second["Message-ID"]
    assert mail_server.mails[0].part("html") == mail_server.mails[1].part("html")


def test_hostile_names_add_no_header_no_recipient_and_no_element(mail_server: MailServer) -> None:
    name = "Chat\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script> <img src=x>"
    cause = {"component": "</p><a href=//evil>", "allocated_ms": 800, "observed_ms": 2100}
    send(
        make_message(
            story=Story("opened", name, figures=FIGURES),
            incident={**INCIDENT, "cause": cause, "environment": "a\nb"},
            channel="x\r\nTo: y",
        )
    )
    (mail,) = mail_server.mails
    assert mail.message["Bcc"] is None
    assert mail.recipients == tuple(TO)
    assert "Bcc: all@example.com" in mail.subject
    html = mail.part("html")
    for element in ("<script", "<img", "//evil>"):
        assert element not in html
    assert "&lt;script&gt;" in html


def test_a_line_that_begins_with_a_full_stop_arrives_whole(mail_server: MailServer) -> None:
    send(make_message(story=Story("opened", ".", figures=FIGURES), channel=".\n."))
    assert len(mail_server.mails) == 1


# -- What is refused --------------------------------------------------------------------------------


def test_an_address_that_is_refused_does_not_lose_the_others(mail_server: MailServer) -> None:
    mail_server.answer("RCPT", "550 5.1.1 no such user")
    answer = send()
    (mail,) = mail_server.mails
    assert mail.recipients == ("kim@example.com",)
    assert answer.excerpt == ("250 2.0.0 queued as 4XyZ\nRefused oncall@example.com: 550 5.1.1 no such user")


def refusal(**arguments: Any) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(**arguments)
    return caught.value


@pytest.mark.parametrize(
    ("replies", "permanent"),
    [
        (["550 5.1.1 no such user", "553 5.1.3 nor this one"], True),
        (["550 5.1.1 no such user", "450 4.2.1 try later"], False),
        (["451 4.7.1 greylisted", "451 4.7.1 greylisted"], False),
    ],
)
def test_where_every_address_is_refused_the_codes_decide_about_another_try(
    mail_server: MailServer, replies: list[str], permanent: bool
) -> None:
    mail_server.answer("RCPT", *replies)
    error = refusal()
    assert error.permanent is permanent
    assert error.status == min(int(reply[:3]) for reply in replies)
    for address, reply in zip(TO, replies, strict=True):
        assert f"{address}: {reply}" in error.message
    assert mail_server.mails == []


@pytest.mark.parametrize(
    ("command", "reply", "permanent", "said"),
    [
        ("CONTENT", "554 5.7.1 this is spam", True, "554 5.7.1 this is spam"),
        ("CONTENT", "452 4.3.1 disk full", False, "452 4.3.1 disk full"),
        ("DATA", "421 4.3.2 going down", False, "421 4.3.2 going down"),
        ("MAIL", "550 5.7.1 not your domain", False, "DEFAULT_FROM_EMAIL"),
        ("MAIL", "451 4.3.0 later", False, "451 4.3.0 later"),
        ("GREETING", "554 5.7.1 go away", False, "554 5.7.1 go away"),
        ("GREETING", "421 4.3.2 too busy", False, "421 4.3.2 too busy"),
        ("RCPT", CLOSE, False, "could not be reached"),
        ("CONTENT", CLOSE, False, "could not be reached"),
        ("GREETING", "nonsense", False, "mail server"),
        ("MAIL", "999 \x07what", False, "mail server"),
    ],
)
def test_a_failure_says_what_the_server_answered_and_whether_it_can_be_mended(
    mail_server: MailServer, command: str, reply: str, permanent: bool, said: str
) -> None:
    mail_server.answer(command, reply)
    error = refusal()
    assert (error.permanent, said in error.message) == (permanent, True), error.message
    assert "\x07" not in error.message


def test_a_wrong_login_is_mended_by_the_operator_so_it_is_tried_again(settings: LazySettings) -> None:
    with MailServer(extensions=("AUTH PLAIN LOGIN",)) as server:
        use_mail_server(settings, server, EMAIL_HOST_USER="ld", EMAIL_HOST_PASSWORD="wrong")
        server.answer("AUTH", "535 5.7.8 no", "535 5.7.8 no")
        error = refusal()
        assert (error.permanent, error.status) == (False, 535)
        assert "login of EMAIL_URL" in error.message
        assert "wrong" not in error.message
        send()
        assert len(server.mails) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(settings: LazySettings) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "hooks.example.test.pem")
    with MailServer(extensions=("STARTTLS",), tls=context) as server:
        use_mail_server(settings, server, EMAIL_USE_TLS=True)
        error = refusal()
        assert not error.permanent
        assert "certificate is not valid" in error.message
        assert server.mails == []


def test_a_server_that_is_not_there_is_tried_again(mail_server: MailServer) -> None:
    mail_server.close()
    error = refusal()
    assert not error.permanent
    assert "could not be reached" in error.message


@pytest.mark.parametrize("behaviour", [HANG, DRIP])
@pytest.mark.parametrize("command", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
def test_the_deadline_holds_over_everything(mail_server: MailServer, command: str, behaviour: str) -> None:
    mail_server.answer(command, behaviour)
    started = time.monotonic()
    error = refusal(deadline_s=0.4)
    assert time.monotonic() - started < 2
    assert not error.permanent
    assert "no answer within 0.4 s" in error.message


def test_a_server_that_hangs_after_it_took_the_mail_has_it(mail_server: MailServer) -> None:
    mail_server.answer("QUIT", HANG)
    assert send(deadline_s=0.5).status == 250
    assert len(mail_server.mails) == 1


@pytest.mark.parametrize(
    ("is_configured", "backend"),
    [
        (False, "smtp"),
        (True, "console"),
        (True, "dummy"),
    ],
)
def test_without_a_mail_server_nothing_counts_as_delivered(
    settings: LazySettings, is_configured: bool, backend: str
) -> None:
    settings.EMAIL_IS_CONFIGURED = is_configured
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    error = refusal()
    assert not error.permanent
    assert "EMAIL_URL" in error.message


def test_another_backend_of_django_gets_the_mail(settings: LazySettings, mailoutbox: list[Any]) -> None:
    settings.EMAIL_IS_CONFIGURED = True
    assert send().status == 250
    (mail,) = mailoutbox
    assert mail.to == TO


# -- What may be saved ------------------------------------------------------------------------------


def test_addresses_are_stored_once_each_without_the_spaces_around_them() -> None:
    given = [" kim@example.com", "KIM@example.com ", "oncall@example.com\n"]
    assert email.validate({"to": given}, allowed_networks=()) == {
        "to": ["KIM@example.com", "oncall@example.com"]
    }


@pytest.mark.parametrize(
    "to",
    [
        None,
        [],
        "kim@example.com",
        [7],
        ["kim"],
        ["kim@"],
        ["a@example.com\r\nBcc: b@example.com"],
        ["Kim <kim@example.com>"],
        ["a@example.com,b@example.com"],
        [f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.com"],
        [f"a{number}@example.com" for number in range(21)],
    ],
    ids=str,
)
def test_what_is_no_list_of_addresses_is_refused(to: object) -> None:
    with pytest.raises(InvalidConfig) as caught:
        email.validate({"to": to}, allowed_networks=())
    assert list(caught.value.fields) == ["to"]


def test_a_field_that_email_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidConfig) as caught:
        email.validate({"to": TO, "url": "https://example.com"}, allowed_networks=())
    assert list(caught.value.fields) == ["url"]


def test_a_description_names_the_first_address() -> None:
    assert email.describe({"to": TO}) == "Email to oncall@example.com and 1 more"
    assert email.describe({"to": TO[:1]}) == "Email to oncall@example.com"


# -- Through the outbox -----------------------------------------------------------------------------


def make_email_channel(team: Team, **overrides: Any) -> Channel:
    return Channel.objects.create(
        team=team, **{"name": "mail", "kind": "email", "config": {"to": TO}, **overrides}
    )


def open_incident(feature: Feature, **finding: Any) -> int:
    values = {
        "severity": "ticket",
        "rule": "burn_rate 1d/2h",
        "reason": "burning",
        "summary": "It burns.",
        "cause": None,
        "burn_rate": 3.2,
        "figures": FIGURES.document(),
    }
    opened = incidents.open_incident(
        target=Target(feature, "production", milestone="first_token"),
        finding=Finding(**{**values, **finding}),
        evidence=["burn_rate 1d/2h"],
        now=NOW,
    )
    assert opened is not None
    return opened.pk


def send_all(now: datetime = NOW) -> list[bool]:
    sent = []
    while found := claim_due(now=now, limit=1):
        sent.append(deliver(claimed=found[0], now=now))
    return sent


@pytest.mark.django_db
def test_an_incident_is_told_in_one_conversation_from_its_beginning_to_its_end(
    mail_server: MailServer,
) -> None:
    feature = make_feature()
    make_email_channel(feature.team)
    pk = open_incident(feature)
    later = NOW + timedelta(minutes=4)
    incidents.acknowledge(incident_id=pk, actor="kim@example.com", note="looking", now=later)
    incidents.resolve(incident_id=pk, actor="kim@example.com", now=later)
    assert send_all(later) == [True, True, True]
    assert [mail.subject for mail in mail_server.mails] == [
        "✕ Support chat, first token: p99 4.20 s of 3 s",
        "▲ Acknowledged: Support chat, first token",
        "✓ Resolved: Support chat, first token",
    ]
    opened, acknowledged, resolved = [mail.message for mail in mail_server.mails]
    assert acknowledged["References"] == resolved["References"] == opened["Message-ID"]
    assert "Note: looking" in mail_server.mails[1].part("plain")
    assert "lasted 4 min" in mail_server.mails[2].part("plain")


@pytest.mark.django_db
def test_a_team_is_told_by_its_own_clock_whoever_has_the_message_sent(mail_server: MailServer) -> None:
    feature = make_feature(team=make_team(time_zone="Asia/Kolkata"))
    make_email_channel(feature.team)
    open_incident(feature)
    with formats.reading_in(
        zone_of("America/New_York")
    ):  # as in a request of somebody who reads by that clock
        assert send_all() == [True]
    for kind in ("plain", "html"):
        assert "22 Nov 2026, 01:30 IST" in mail_server.mails[0].part(kind)


@pytest.mark.django_db
def test_a_ticket_that_becomes_a_page_answers_to_what_the_channel_heard_first(
    mail_server: MailServer,
) -> None:
    feature = make_feature()
    make_email_channel(feature.team)
    make_email_channel(feature.team, name="pages", min_severity="page")
    pk = open_incident(feature)
    raised = Finding("page", "burn_rate 1h/5m", "burning", "It burns.", None, 15.2, FIGURES.document())
    incident = incidents.Incident.objects.get(pk=pk)
    incidents.raise_severity(incident=incident, finding=raised, now=NOW)
    incidents.resolve(incident_id=pk, actor="kim@example.com", now=NOW)
    send_all()
    references = {}
    for mail in mail_server.mails:
        name = "pages" if "channel pages" in mail.part("plain") else "mail"
        references.setdefault(name, []).append((mail.message["Message-ID"], mail.message["References"]))
    ticket, page, resolved = references["mail"]
    assert (ticket[1], page[1], resolved[1]) == (None, ticket[0], ticket[0])
    page, resolved = references["pages"]
    assert (page[1], resolved[1]) == (None, page[0])


@pytest.mark.django_db
def test_an_attempt_shows_what_the_mail_server_said(mail_server: MailServer) -> None:
    feature = make_feature()
    make_email_channel(feature.team)
    mail_server.answer("RCPT", *["450 4.2.1 busy"] * 2)
    open_incident(feature)
    assert send_all() == [False]
    notification = Notification.objects.get()
    assert notification.state == "pending"
    assert notification.next_attempt_at is not None
    assert send_all(notification.next_attempt_at) == [True]
    failed, delivered = DeliveryAttempt.objects.order_by("number")
    assert (failed.outcome, failed.status_code) == ("failed", 450)
    assert "oncall@example.com: 450 4.2.1 busy" in failed.error
    assert (delivered.status_code, delivered.excerpt) == (250, "250 2.0.0 queued as 4XyZ")


@pytest.mark.django_db
def test_a_message_from_before_there_were_stories_is_sent_all_the_same(mail_server: MailServer) -> None:
    feature = make_feature()
    make_email_channel(feature.team)
    open_incident(feature)
    notification = Notification.objects.get()
    del notification.data["story"]
    notification.save()
    assert send_all() == [True]
    assert mail_server.mails[0].subject == f"✕ {feature.slug}, first token"


def test_the_figures_of_a_message_stay_out_of_what_programs_get() -> None:
    message = replace(make_message(), story=Story("opened", "Support chat", figures=FIGURES))
    assert set(message.incident) == set(INCIDENT)
