"""The pages of a team's channels: who may change them, what a test shows, and what can be read of what was sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook

from alerts.channel_settings import delete_channel, rotate_secret, save_channel, switch_channel
from alerts.channels import KINDS
from alerts.forms import CHANNEL_FORMS
from alerts.models import Channel, DeliveryAttempt, Notification
from alerts.notifications import LEASE, claim_due, deliver, due
from alerts.trials import try_channel
from budgets.errors import Refusal
from budgets.models import AuditEntry, Membership, Team
from tests.alerts.test_holds import make_silence
from tests.alerts.test_incident_pages import open_one
from tests.budgets.test_pages import signed_in, text_of
from tests.concurrency import at_once, held, is_waiting
from tests.factories import SECRET, make_channel, make_feature, make_team
from tests.mail_servers import MailServer
from tests.people import make_person
from tests.receivers import HANG, Exchange, Reply, WebhookReceiver

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

LIST = "/teams/assistants/channels/"
NEW = f"{LIST}new/"
KIM = "kim@example.com"
# An address that passes every check; nothing in these tests sends anything to it.
PUBLIC_URL = "https://93.184.215.14/T0/token"


@pytest.fixture(autouse=True)
def _receivers_here_may_be_reached(settings: LazySettings) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def editor(team: Team) -> Client:
    return signed_in(make_person(KIM, team=team, role=Membership.Role.EDITOR))


@pytest.fixture
def channel(team: Team, webhook_receiver: WebhookReceiver) -> Channel:
    return make_channel(team, name="pager", url=webhook_receiver.url)


def page_of(channel: Channel) -> str:
    return f"{LIST}{channel.pk}/"


def actions(channel: Channel) -> list[tuple[str, dict[str, str]]]:
    """Every address at which something is changed or sent, and a form that would."""
    page = page_of(channel)
    return [
        (NEW, {"name": "second", "url": PUBLIC_URL, "min_severity": "ticket"}),
        (page, {"url": PUBLIC_URL, "min_severity": "page"}),
        (f"{page}test/", {}),
        (f"{page}switch/", {"enabled": "false"}),
        (f"{page}secret/", {}),
        (f"{page}delete/", {}),
    ]


def read(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return text_of(response.content.decode())


def field_errors(response: Any) -> dict[str, str]:
    """What stands at the fields of a form, by the id of the sentence."""
    found = re.findall(r'class="field-error" id="id_(\w+)_error">([^<]*)<', response.content.decode())
    return dict(found)


def send_all(now: datetime) -> None:
    while found := claim_due(now=now, limit=1):
        deliver(claimed=found[0], now=now)


# -- Who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Membership.Role.EDITOR, Membership.Role.ADMIN])
def test_editors_and_admins_change_and_test(team: Team, channel: Channel, role: str) -> None:
    client = signed_in(make_person("ada@example.com", team=team, role=role))
    for address, form in actions(channel):
        assert client.post(address, form).status_code in (200, 302), address
    channel.refresh_from_db()
    assert channel.deleted_at is not None
    assert Channel.objects.kept().get().name == "second"


def test_a_viewer_looks_and_changes_nothing(
    team: Team, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    client = signed_in(make_person("vera@example.com", team=team))
    assert "pager" in read(client, LIST)
    html = client.get(page_of(channel)).content.decode()
    assert "Editors and admins of the team change and test channels" in text_of(html)
    assert "<form" not in html.split("<main")[1]
    assert "/hook" not in html
    for address, form in actions(channel):
        response = client.post(address, form)
        assert response.status_code == 403, address
        assert "Only editors and admins of team Assistants may change its channels" in text_of(
            response.content.decode()
        )
    assert Channel.objects.get().deleted_at is None
    assert webhook_receiver.requests == []


@pytest.mark.parametrize(
    ("who", "role", "may"),
    [
        ("kim@example.com", Membership.Role.EDITOR, True),
        ("ada@example.com", Membership.Role.ADMIN, True),
        ("eve@example.com", Membership.Role.EDITOR, False),
    ],
)
def test_a_persons_own_channel_is_changed_by_that_person_and_by_admins(
    team: Team, channel: Channel, who: str, role: str, may: bool
) -> None:
    people = {
        email: make_person(email, team=team, role=given)
        for email, given in {KIM: Membership.Role.EDITOR, who: role}.items()
    }
    Channel.objects.filter(pk=channel.pk).update(owner=people[KIM])
    client = signed_in(people[who])
    html = client.get(page_of(channel)).content.decode()
    assert ("<form" in html.split("<main")[1]) is may
    for address, form in actions(channel)[1:]:
        response = client.post(address, {**form, "owner": KIM})
        assert response.status_code in ((200, 302) if may else (403,)), address
    assert (Channel.objects.get().deleted_at is not None) is may


def test_an_outsider_finds_nothing(channel: Channel, webhook_receiver: WebhookReceiver) -> None:
    client = signed_in(make_person("otto@example.com", team=make_team(), role=Membership.Role.ADMIN))
    for address in (LIST, NEW, page_of(channel), f"{page_of(channel)}delete/", f"{page_of(channel)}secret/"):
        assert client.get(address).status_code == 404, address
    for address, form in actions(channel):
        assert client.post(address, form).status_code == 404, address
    assert webhook_receiver.requests == []


def test_a_channel_of_another_team_is_not_found_under_ones_own(editor: Client) -> None:
    other = make_channel(make_team())
    for address, form in actions(other)[1:]:
        assert editor.post(address, form).status_code == 404, address
    assert editor.get(page_of(other)).status_code == 404


def test_a_visitor_is_asked_to_log_in(client: Client, channel: Channel) -> None:
    for address in (LIST, NEW, page_of(channel)):
        assert client.get(address).url.startswith("/login/")
    for address, form in actions(channel):
        assert client.post(address, form).url.startswith("/login/")


# -- The list ---------------------------------------------------------------------------------------


def test_a_team_without_a_channel_is_warned(editor: Client) -> None:
    html = editor.get(LIST).content.decode()
    assert "Nobody is told of this team's incidents: it has no channel." in text_of(html)
    assert NEW in html


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"is_enabled": False}, "Nobody is told of this team's incidents: every channel is disabled."),
        ({"min_severity": "page"}, "Nobody is told of this team's tickets"),
        ({"kind": "email", "config": {"to": [KIM]}}, "No mail goes out"),
    ],
)
def test_what_keeps_a_team_from_hearing_is_said(
    editor: Client, channel: Channel, change: dict[str, Any], warning: str
) -> None:
    assert warning not in read(editor, LIST)
    Channel.objects.filter(pk=channel.pk).update(**change)
    assert warning in read(editor, LIST)


def test_the_list_says_where_a_channel_leads_and_what_came_of_its_last_try(
    editor: Client, team: Team, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    feature = make_feature(team=team)
    open_one(feature)
    send_all(timezone.now())
    webhook_receiver.answer(Reply(503, body=b"we are <b>moving</b>"))
    open_one(feature, component="tools")
    send_all(timezone.now())
    html = editor.get(LIST).content.decode()
    text = text_of(html)
    assert f"Webhook to 127.0.0.1:{webhook_receiver.port}" in text
    assert "Failed" in text
    assert "HTTP 503" in text
    assert "The receiver answered 503." in text
    assert "Last delivered" in text
    assert "never" not in text.split("Last try", 1)[1]
    assert SECRET not in html
    assert "/hook" not in html


def test_the_list_takes_as_many_queries_for_one_channel_as_for_many(
    editor: Client, team: Team, channel: Channel
) -> None:
    feature = make_feature(team=team)
    open_one(feature)
    send_all(timezone.now())

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert editor.get(LIST).status_code == 200
        return len(captured)

    queries()
    before = queries()
    for number in range(5):
        make_channel(team, url=channel.config["url"], name=f"another {number}")
    open_one(feature, component="tools")
    send_all(timezone.now())
    assert queries() == before


# -- Making and changing ----------------------------------------------------------------------------


def test_a_webhook_is_made_and_its_secret_shown_once(editor: Client, team: Team) -> None:
    response = editor.post(NEW, {"name": "pager", "url": PUBLIC_URL, "min_severity": "page"})
    html = response.content.decode()
    made = Channel.objects.get()
    assert made.config["secret"].startswith("whsec_")
    assert made.config["secret"] in html
    assert "no-store" in response["Cache-Control"]
    assert (made.team, made.name, made.min_severity, made.is_enabled) == (team, "pager", "page", True)
    assert made.config["secret"] not in editor.get(page_of(made)).content.decode()
    entry = AuditEntry.objects.get(action="channel.saved")
    assert (entry.actor, entry.subject, entry.before) == (KIM, "pager", None)


def test_a_secret_of_the_receivers_own_is_taken_and_not_shown(editor: Client) -> None:
    response = editor.post(
        NEW, {"name": "pager", "url": PUBLIC_URL, "min_severity": "page", "secret": SECRET}
    )
    assert response.status_code == 302
    assert Channel.objects.get().config["secret"] == SECRET


def test_an_email_channel_is_made_from_lines(editor: Client) -> None:
    form = {"name": "mail", "to": "oncall@example.com\r\n\r\n kim@example.com ", "min_severity": "ticket"}
    response = editor.post(f"{NEW}?kind=email", form)
    made = Channel.objects.get()
    assert response.url == page_of(made)
    assert (made.kind, made.config) == ("email", {"to": ["oncall@example.com", "kim@example.com"]})


@pytest.mark.parametrize(
    ("query", "form", "field", "said"),
    [
        ("", {"url": "http://10.0.0.1/x"}, "url", "private"),
        ("", {"url": ""}, "url", "needs the URL"),
        ("", {"secret": "hunter2"}, "secret", "24 to 64 bytes"),
        ("", {"name": ""}, "name", "needs a name"),
        ("", {"name": "pager"}, "name", "There is a channel 'pager' already"),
        ("?kind=email", {"to": "kim"}, "to", "'kim' is no e-mail address"),
        ("?kind=email", {"to": " \n"}, "to", "one e-mail address or more"),
    ],
)
def test_a_form_keeps_what_was_typed_and_says_at_the_field_what_is_wrong(
    editor: Client, channel: Channel, query: str, form: dict[str, str], field: str, said: str
) -> None:
    sound = {"name": "typed name", "url": PUBLIC_URL, "to": KIM, "min_severity": "page"}
    response = editor.post(f"{NEW}{query}", {**sound, **form})
    assert response.status_code == 400
    errors = {name: " ".join(text.split()) for name, text in field_errors(response).items()}
    assert list(errors) == [field]
    assert said in unescape(errors[field])
    html = response.content.decode()
    if field != "name":
        assert 'value="typed name"' in html
    assert re.search(r'<option value="page" selected', html)
    assert Channel.objects.count() == 1


def test_a_kind_that_there_is_not_is_not_found(editor: Client) -> None:
    assert editor.get(f"{NEW}?kind=pigeon").status_code == 404


def test_a_change_keeps_the_secret_and_is_written_down(editor: Client, channel: Channel) -> None:
    response = editor.post(page_of(channel), {"url": PUBLIC_URL, "min_severity": "page"})
    assert response.status_code == 302
    channel.refresh_from_db()
    assert channel.config == {"url": PUBLIC_URL, "secret": SECRET}
    assert channel.min_severity == "page"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("channel.saved", KIM)
    assert "token" not in str(entry.before) + str(entry.after)


@pytest.mark.django_db(transaction=True)
def test_a_change_does_not_bring_back_a_secret_that_somebody_exchanged_meanwhile(
    team: Team, channel: Channel
) -> None:
    document = {"kind": "webhook", "url": PUBLIC_URL, "min_severity": "page"}
    now = timezone.now()

    with held("SELECT 1 FROM alerts_channel FOR UPDATE") as start:
        exchanged = start(lambda: rotate_secret(channel_id=channel.pk, actor=KIM, now=now))
        assert is_waiting("alerts_channel")
        saved = start(
            lambda: save_channel(team=team, name=channel.name, document=document, actor=KIM, now=now)
        )
        assert is_waiting("alerts_channel", count=2)

    channel.refresh_from_db()
    assert saved.result().channel.min_severity == "page"
    assert channel.config == {"url": PUBLIC_URL, "secret": exchanged.result()}


def test_a_change_of_a_disabled_channel_leaves_it_disabled(editor: Client, channel: Channel) -> None:
    Channel.objects.update(is_enabled=False)
    editor.post(page_of(channel), {"url": PUBLIC_URL, "min_severity": "page"})
    channel.refresh_from_db()
    assert (channel.min_severity, channel.is_enabled) == ("page", False)


def test_a_wrong_change_keeps_what_was_typed(editor: Client, channel: Channel) -> None:
    response = editor.post(page_of(channel), {"url": "ftp://typed.example.com/", "min_severity": "page"})
    assert response.status_code == 400
    assert "https://" in field_errors(response)["url"]
    assert 'value="ftp://typed.example.com/"' in response.content.decode()
    channel.refresh_from_db()
    assert channel.min_severity == "ticket"


def test_a_channel_is_disabled_although_its_address_is_forbidden_by_now(
    editor: Client, channel: Channel, settings: LazySettings
) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = []
    editor.post(f"{page_of(channel)}switch/", {"enabled": "false"})
    channel.refresh_from_db()
    assert not channel.is_enabled
    editor.post(f"{page_of(channel)}switch/", {"enabled": "true"})
    channel.refresh_from_db()
    assert channel.is_enabled
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["channel.disabled", "channel.enabled"]


def test_a_new_secret_is_shown_once_and_signs_what_follows(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    address = f"{page_of(channel)}secret/"
    assert "refuses them until it has the new one" in read(editor, address)
    channel.refresh_from_db()
    assert channel.config["secret"] == SECRET
    html = editor.post(address).content.decode()
    channel.refresh_from_db()
    assert channel.config["secret"] != SECRET
    assert channel.config["secret"] in html
    editor.post(f"{page_of(channel)}test/")
    request = webhook_receiver.requests[0]
    Webhook(channel.config["secret"]).verify(request.body, dict(request.headers))
    entry = AuditEntry.objects.get()
    assert entry.action == "channel.secret_rotated"
    assert entry.before["config_digest"] != entry.after["config_digest"]


def test_a_channel_without_a_secret_has_none_to_exchange(editor: Client, team: Team) -> None:
    mail = Channel.objects.create(team=team, name="mail", kind="email", config={"to": [KIM]})
    assert editor.post(f"{page_of(mail)}secret/").status_code == 404


def test_a_deleted_channel_keeps_its_log_and_nothing_secret(
    editor: Client, team: Team, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    incident = open_one(make_feature(team=team))
    send_all(timezone.now())
    assert "can still be read" in read(editor, f"{page_of(channel)}delete/")
    assert editor.post(f"{page_of(channel)}delete/").url == LIST
    channel.refresh_from_db()
    assert (channel.is_enabled, "secret" in channel.config) == (False, False)
    assert "/hook" not in str(channel.config)
    text = read(editor, page_of(channel))
    assert "Deleted" in text
    assert "Delivered" in text
    assert "Save" not in text
    assert "1 deleted" in read(editor, LIST)
    assert "pager" in read(editor, incident.get_absolute_url())
    entry = AuditEntry.objects.filter(action="channel.deleted").get()
    assert (entry.subject, entry.after) == ("pager", None)

    made = make_channel(team, name="pager")
    assert Channel.objects.kept().get() == made
    open_one(make_feature(team=team))
    send_all(timezone.now())
    assert len(webhook_receiver.requests) == 1


def test_what_was_waiting_for_a_deleted_channel_is_given_up(
    editor: Client, team: Team, channel: Channel
) -> None:
    open_one(make_feature(team=team))
    delete_channel(channel_id=channel.pk, actor=KIM, now=timezone.now())
    notification = Notification.objects.get()
    assert (notification.state, notification.reason) == ("undeliverable", "channel_deleted")


def test_a_name_that_no_path_of_the_api_could_have_is_refused_at_its_field(
    editor: Client, team: Team
) -> None:
    form = {"name": "gap/only", "min_severity": "ticket", "to": KIM}
    response = editor.post(f"{NEW}?kind=email", form)
    assert response.status_code == 400
    assert "none of them a slash" in unescape(field_errors(response)["name"])
    assert not Channel.objects.exists()
    # One from before can be changed all the same.
    make_channel(team, name="gap/only", url="https://93.184.215.14/hook")
    document = {"kind": "webhook", "url": "https://93.184.215.14/hook", "min_severity": "page"}
    save_channel(team=team, name="gap/only", document=document, actor=KIM, now=timezone.now())
    assert Channel.objects.get().min_severity == "page"


def test_an_incident_says_where_it_ended_and_began_as_its_channel_was_given_another_address(
    editor: Client, team: Team, channel: Channel
) -> None:
    incident = open_one(make_feature(team=team))
    send_all(timezone.now())
    document = {"kind": "webhook", "url": "https://93.184.215.14/elsewhere"}
    save_channel(team=team, name=channel.name, document=document, actor=KIM, now=timezone.now())
    shown = read(editor, incident.get_absolute_url())
    assert "the channel led here until now" in shown
    assert "the channel leads here from now on" in shown
    former = Channel.objects.exclude(pk=channel.pk).get()
    assert "deleted" in read(editor, page_of(former))


def test_the_log_says_what_holds_a_message_back(editor: Client, team: Team, channel: Channel) -> None:
    incident = open_one(make_feature(team=team))
    now = timezone.now()
    make_silence(team, starts_at=now, ends_at=now + timedelta(hours=1))
    assert due(now=now, limit=9) == []
    assert "held back by silence “Load test” of ada@example.com, looked at again" in read(
        editor, page_of(channel)
    )
    assert "Held back by silence “Load test”" in read(editor, incident.get_absolute_url())
    assert "holds it back. It is looked at again" in read(editor, incident.get_absolute_url())


def test_nothing_is_changed_of_a_channel_that_somebody_deleted_meanwhile(
    editor: Client, channel: Channel
) -> None:
    delete_channel(channel_id=channel.pk, actor="ada@example.com", now=timezone.now())
    with pytest.raises(Refusal, match="deleted this channel meanwhile"):
        switch_channel(channel_id=channel.pk, is_enabled=True, actor=KIM, now=timezone.now())
    response = editor.post(page_of(channel), {"url": PUBLIC_URL, "min_severity": "page"})
    assert "deleted" in text_of(response.content.decode())
    response = editor.post(f"{page_of(channel)}switch/", {"enabled": "true"}, follow=True)
    assert "Somebody deleted this channel meanwhile" in text_of(response.content.decode())
    assert Channel.objects.kept().count() == 0


# -- Testing ----------------------------------------------------------------------------------------


def press_test(client: Client, channel: Channel) -> str:
    response = client.post(f"{page_of(channel)}test/", follow=True)
    assert response.redirect_chain == [(f"{page_of(channel)}#test", 302)]
    return text_of(response.content.decode())


def test_a_test_sends_a_firing_and_a_resolved_message_and_shows_what_the_receiver_answered(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(200, body=b"thanks"), Reply(202, body=b"bye"))
    text = press_test(editor, channel)
    assert "Delivered: the firing and the resolved test message arrived." in text
    for shown in ("HTTP 200", "HTTP 202", "thanks", "bye", " ms"):
        assert shown in text
    firing, resolved = webhook_receiver.requests
    for request in (firing, resolved):
        document = Webhook(SECRET).verify(request.body, dict(request.headers))
        assert document["type"] == "incident.test"
        assert document["data"]["incident"].keys() == {
            "id",
            "feature",
            "environment",
            "milestone",
            "component",
            "severity",
            "rule",
            "summary",
            "cause",
            "burn_rate",
            "runbook_url",
            "opened_at",
            "url",
        }
        assert "Test by kim@example.com, nothing is wrong" in document["data"]["incident"]["summary"]
    assert "Recovered." in resolved.json()["data"]["incident"]["summary"]
    assert firing.headers["webhook-id"] != resolved.headers["webhook-id"]


def test_a_test_is_logged_like_every_message(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    press_test(editor, channel)
    assert (
        list(Notification.objects.values_list("event", "state", "incident"))
        == [("incident.test", "delivered", None)] * 2
    )
    assert list(DeliveryAttempt.objects.values_list("outcome", "status_code")) == [("delivered", 204)] * 2
    log = read(editor, page_of(channel)).split("Delivery log", 1)[1]
    assert "Test, firing" in log
    assert "Test, resolved" in log


def test_a_test_that_fails_shows_why_and_is_sent_once(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(404, body=b"Cannot POST /hook, your secret is " + SECRET.encode()))
    text = press_test(editor, channel)
    assert "Not delivered. The receiver answered 404." in text
    assert "Cannot POST •••, your secret is •••" in text
    assert len(webhook_receiver.requests) == 1
    notification = Notification.objects.get()
    assert (notification.state, notification.reason) == ("undeliverable", "test_failed")
    assert claim_due(now=timezone.now() + timedelta(hours=1), limit=10) == []


def test_a_test_of_a_forbidden_address_sends_nothing_and_says_so(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver, settings: LazySettings
) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = []
    assert "127.0.0.1 is loopback. Nothing was sent." in press_test(editor, channel)
    assert webhook_receiver.requests == []


def test_a_receiver_that_hangs_holds_a_test_until_the_deadline(
    channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(HANG)
    trial = try_channel(channel_id=channel.pk, actor=KIM, now=timezone.now(), deadline_s=0.3)
    assert not trial.is_delivered
    assert "no answer within 0.3 s" in trial.error
    assert len(webhook_receiver.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_of_tests_at_once_one_is_sent(channel: Channel, webhook_receiver: WebhookReceiver) -> None:
    now = timezone.now()

    def press() -> object:
        try:
            return try_channel(channel_id=channel.pk, actor=KIM, now=now).is_delivered
        except Refusal as refusal:
            return refusal.code

    def press_while_it_waits(exchange: Exchange) -> None:
        outcomes.extend(at_once(press))
        exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    outcomes: list[object] = []
    webhook_receiver.answer(Reply(script=press_while_it_waits))
    assert press() is True
    assert outcomes == ["test_under_way"]


@pytest.mark.django_db(transaction=True)
def test_a_test_of_which_nobody_waits_for_the_answer_any_more_is_given_up_and_not_sent_again(
    channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    now = timezone.now()
    seen: list[Any] = []

    def look() -> None:
        assert claim_due(now=now + LEASE - timedelta(seconds=1), limit=10) == []
        seen.append(Notification.objects.get().state)
        assert claim_due(now=now + LEASE, limit=10) == []
        given_up = Notification.objects.get()
        seen.extend([given_up.state, given_up.reason, given_up.attempts.get().outcome])

    def outlive_the_lease(exchange: Exchange) -> None:
        at_once(look)
        exchange.hang()

    webhook_receiver.answer(Reply(script=outlive_the_lease))
    try_channel(channel_id=channel.pk, actor=KIM, now=now, deadline_s=1)
    assert seen == ["pending", "undeliverable", "test_interrupted", "interrupted"]
    assert len(webhook_receiver.requests) == 1


def test_a_disabled_channel_can_be_tested_before_it_is_enabled(
    editor: Client, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    Channel.objects.update(is_enabled=False)
    assert "Delivered" in press_test(editor, channel)


def test_a_test_by_mail_is_one_conversation_that_says_that_it_is_a_test(
    editor: Client, team: Team, mail_server: MailServer
) -> None:
    mail = Channel.objects.create(team=team, name="mail", kind="email", config={"to": [KIM]})
    text = press_test(editor, mail)
    assert "SMTP 250" in text
    assert "queued as 4XyZ" in text
    firing, resolved = mail_server.mails
    assert firing.subject.startswith("Test: ✕ Example feature, first token")
    assert resolved.subject.startswith("Test: ✓ Resolved: Example feature")
    assert resolved.message["References"] == firing.message["Message-ID"]
    assert "Nothing is wrong: the figures are made up." in firing.part("plain")


def test_a_test_without_a_mail_server_says_what_is_missing(editor: Client, team: Team) -> None:
    mail = Channel.objects.create(team=team, name="mail", kind="email", config={"to": [KIM]})
    text = press_test(editor, mail)
    assert "This installation has no mail server" in text
    assert "No mail goes out" in text


# -- The log ----------------------------------------------------------------------------------------


def test_the_log_shows_every_try_with_answer_and_next_try(
    editor: Client, team: Team, channel: Channel, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.answer(Reply(503, body=b"<script>moving</script> /hook"))
    open_one(make_feature(team=team, slug="support-chat"))
    send_all(timezone.now())
    html = editor.get(page_of(channel)).content.decode()
    log = text_of(html).split("Delivery log", 1)[1]
    for shown in ("Support chat", "first token", "opened", "next try", "Try 1", "HTTP 503", "503."):
        assert shown in log
    assert "&lt;script&gt;moving&lt;/script&gt; •••" in html
    assert "<script>moving" not in html


def test_the_log_has_pages_and_takes_the_same_number_of_queries_for_each(
    editor: Client, team: Team, channel: Channel, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    now = timezone.now()
    for number in range(30):
        Notification.objects.create(
            channel=channel,
            event="incident.test",
            severity="ticket",
            data={"incident": {}, "story": {"step": "opened"}},
            created_at=now + timedelta(seconds=number),
            state="delivered",
            finished_at=now,
        )
    with django_assert_max_num_queries(14):
        assert "Page 1 of 2" in read(editor, page_of(channel))
    assert "Page 2 of 2" in read(editor, f"{page_of(channel)}?page=2")


# -- Every kind ---------------------------------------------------------------------------------------

SERVICE_FORMS = {
    "slack": {"url": "https://93.184.215.14/services/secret-part"},
    "teams": {"url": "https://93.184.215.14/workflows/secret-part"},
    "discord": {"url": "https://93.184.215.14/api/webhooks/secret-part"},
    "telegram": {"token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "chat_id": "-100123"},
    "pagerduty": {"routing_key": "R0123456789abcdefghijklmnopqrstu", "region": "eu"},
    "opsgenie": {"api_key": "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d", "region": "us"},
}


def test_every_kind_can_be_chosen(editor: Client) -> None:
    assert set(CHANNEL_FORMS) == set(KINDS)
    for kind in KINDS:
        html = editor.get(f"{NEW}?kind={kind}").content.decode()
        assert html.count('aria-current="true"') >= 1
        assert all(f'href="?kind={other}#new-heading"' in html for other in KINDS)


@pytest.mark.parametrize("kind", sorted(SERVICE_FORMS))
def test_a_channel_to_a_service_is_made_and_changed_and_its_secret_never_shown(
    editor: Client, kind: str
) -> None:
    form = {"name": "chat", "min_severity": "ticket", **SERVICE_FORMS[kind]}
    response = editor.post(f"{NEW}?kind={kind}", form)
    made = Channel.objects.get()
    assert (response.status_code, response.url) == (302, page_of(made))
    assert made.config == SERVICE_FORMS[kind]
    secrets = KINDS[kind].secrets(made.config)
    change = {name: text for name, text in form.items() if text not in secrets and name != "url"}
    assert editor.post(page_of(made), {**change, "min_severity": "page"}).status_code == 302
    made.refresh_from_db()
    assert (made.config, made.min_severity) == (SERVICE_FORMS[kind], "page")
    pages = [editor.get(address).content.decode() for address in (LIST, page_of(made))]
    entries = [str([entry.before, entry.after]) for entry in AuditEntry.objects.all()]
    for secret in secrets:
        assert secret not in "".join([*pages, *entries])
    assert "Left empty, it stays as it is." in text_of(pages[1])
    assert KINDS[kind].describe(made.config) in text_of(pages[0])


def test_a_field_of_a_service_says_what_is_wrong_with_it_and_repeats_no_secret(editor: Client) -> None:
    form = {"name": "chat", "min_severity": "ticket", "token": "not-a-token", "chat_id": "no chat"}
    response = editor.post(f"{NEW}?kind=telegram", form)
    assert response.status_code == 400
    errors = {name: unescape(text) for name, text in field_errors(response).items()}
    assert "such as 110201543:" in errors["token"]
    assert "not-a-token" not in errors["token"]
    assert "got 'no chat'" in errors["chat_id"]
    assert not Channel.objects.exists()


AUTHORIZED = {"url": "https://93.184.215.14/", "authorization": "Bearer hidden-token"}


def make_authorized(team: Team) -> Channel:
    return Channel.objects.create(team=team, name="am", kind="alertmanager", config=dict(AUTHORIZED))


def test_a_stored_secret_that_is_optional_is_removed_by_its_box(editor: Client, team: Team) -> None:
    channel = make_authorized(team)
    assert "Remove the stored authorization" in read(editor, page_of(channel))
    form = {"url": AUTHORIZED["url"], "authorization": "", "min_severity": "ticket"}
    editor.post(page_of(channel), form)
    channel.refresh_from_db()
    assert channel.config == AUTHORIZED
    assert editor.post(page_of(channel), {**form, "remove_authorization": "on"}).status_code == 302
    channel.refresh_from_db()
    assert channel.config == {"url": AUTHORIZED["url"]}
    before, after = (getattr(AuditEntry.objects.latest("id"), side) for side in ("before", "after"))
    assert before["config_digest"] != after["config_digest"]
    assert "Remove the stored" not in read(editor, page_of(channel))


def test_a_secret_that_is_removed_may_be_followed_by_another_address(editor: Client, team: Team) -> None:
    channel = make_authorized(team)
    moved = {"url": "https://93.184.215.15/", "authorization": "", "min_severity": "ticket"}
    assert editor.post(page_of(channel), moved).status_code == 400
    assert editor.post(page_of(channel), {**moved, "remove_authorization": "on"}).status_code == 302
    channel.refresh_from_db()
    assert channel.config == {"url": "https://93.184.215.15/"}


def test_a_new_secret_and_its_removal_at_once_are_refused(editor: Client, team: Team) -> None:
    channel = make_authorized(team)
    form = {**AUTHORIZED, "authorization": "Bearer new", "remove_authorization": "on", "min_severity": "page"}
    response = editor.post(page_of(channel), form)
    assert response.status_code == 400
    assert "got both" in field_errors(response)["authorization"]
    channel.refresh_from_db()
    assert channel.config == AUTHORIZED


@pytest.mark.parametrize("kind", sorted(SERVICE_FORMS))
def test_a_secret_that_a_channel_needs_has_no_box(editor: Client, team: Team, kind: str) -> None:
    channel = Channel.objects.create(team=team, name="chat", kind=kind, config=SERVICE_FORMS[kind])
    assert "Remove the stored" not in read(editor, page_of(channel))


# -- Whose they are -----------------------------------------------------------------------------------


def test_a_person_makes_a_channel_of_their_own(editor: Client, team: Team) -> None:
    form = {"name": "mine", "to": KIM, "min_severity": "page", "owner": KIM}
    editor.post(f"{NEW}?kind=email", form)
    made = Channel.objects.get()
    assert made.owner is not None
    assert made.owner.email == KIM
    html = read(editor, LIST)
    assert "kim@example.com 's own" in html
    assert "Nobody is told of this team's incidents" in html
    assert AuditEntry.objects.get().after["owner"] == KIM
    editor.post(page_of(made), {"to": KIM, "min_severity": "page", "owner": ""})
    made.refresh_from_db()
    assert made.owner is None


def test_nobody_makes_a_channel_another_persons(editor: Client, team: Team) -> None:
    make_person("vera@example.com", team=team)
    form = {"name": "hers", "to": KIM, "min_severity": "page", "owner": "vera@example.com"}
    response = editor.post(f"{NEW}?kind=email", form)
    assert list(field_errors(response)) == ["owner"]
    assert not Channel.objects.exists()


def test_a_change_by_an_admin_leaves_a_channel_its_owners(team: Team) -> None:
    admin = signed_in(make_person(KIM, team=team, role=Membership.Role.ADMIN))
    vera = make_person("vera@example.com", team=team)
    hers = Channel.objects.create(team=team, owner=vera, name="hers", kind="email", config={"to": [KIM]})
    html = admin.get(page_of(hers)).content.decode()
    assert re.search(r'<option value="vera@example.com" selected', html)
    form = {"to": "vera@example.com", "min_severity": "page", "owner": "vera@example.com"}
    assert admin.post(page_of(hers), form).status_code == 302
    hers.refresh_from_db()
    assert (hers.owner, hers.config) == (vera, {"to": ["vera@example.com"]})
