"""Who asked for a report gets it once, by the clock of their zone, and can end it from the mail itself."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client

from alerts import report_mails, tasks
from alerts.models import ReportMail, ReportSubscription
from alerts.report_subscriptions import subscribe
from budgets.errors import Refusal
from budgets.models import AuditEntry, Feature, Membership, Team, User
from budgets.teams import remove_member
from tests.alerts.reported import rolled_up, utc
from tests.budgets.test_pages import page, signed_in, text_of
from tests.concurrency import other_connection
from tests.factories import make_feature, make_team
from tests.mail_servers import MailServer, use_mail_server
from tests.people import make_person

pytestmark = pytest.mark.django_db

FRIDAY = utc("2026-11-20 12:00")
MONDAY = utc("2026-11-23 06:00")  # 07:00 in Berlin
MINUTE = timedelta(minutes=1)
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def ada(team: Team) -> User:
    return make_person("ada@example.com", team=team)


@pytest.fixture
def feature(team: Team) -> Feature:
    found = make_feature(team=team, slug="support-chat", now=utc("2026-10-01"))
    rolled_up(found, {utc("2026-11-17 10:00"): (1000, 982)})
    return found


def weekly(user: User, team: Team, **overrides: Any) -> ReportSubscription:
    values: dict[str, Any] = {
        "period": "week",
        "environment": "production",
        "time_zone": "Europe/Berlin",
        "now": FRIDAY,
    }
    return subscribe(user=user, team=team, **{**values, **overrides})


def run(at: datetime) -> None:
    with time_machine.travel(at, tick=False):
        tasks.send_reports()


def test_a_report_is_sent_on_monday_at_seven_by_the_clock_of_the_person(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    bob = make_person("bob@example.com", team=team)
    weekly(ada, team)
    weekly(bob, team, time_zone="America/New_York")

    run(MONDAY - MINUTE)
    assert mail_server.mails == []
    run(MONDAY)
    assert [mail.recipients for mail in mail_server.mails] == [("ada@example.com",)]
    run(MONDAY + timedelta(hours=6))

    assert [mail.recipients for mail in mail_server.mails] == [("ada@example.com",), ("bob@example.com",)]
    assert ReportSubscription.objects.get(membership__user=ada).due_at == MONDAY + timedelta(days=7)


def test_the_month_is_sent_on_its_first_at_seven_also_where_clocks_changed(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    """Subscribed by summer time, sent by winter time: 07:00 is 06:00 UTC and no longer 05:00."""
    saved = weekly(ada, team, period="month", now=utc("2026-10-20 12:00"))

    assert saved.due_at == utc("2026-11-01 06:00")
    run(saved.due_at)
    (mail,) = mail_server.mails
    assert mail.subject == "Assistants, October 2026: nothing measured"


def test_the_mail_says_in_text_and_html_what_the_page_says(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    weekly(ada, team)
    run(MONDAY)

    (mail,) = mail_server.mails
    assert mail.subject == "Assistants, 16–22 November 2026: 0 of 1 kept"
    text = mail.part("plain").replace("\N{NO-BREAK SPACE}", " ")
    html = text_of(unescape(mail.part("html"))).replace("\N{NO-BREAK SPACE}", " ")
    said = "Last week (16–22 November 2026) Support chat did not keep its promise."
    assert said in text
    assert said in html
    assert (
        "✕ Support chat, first token: missed. 98.2 % of 1,000, promised 99 % within 3 s; 180 % of the error budget used"
        in text
    )
    address = (
        "/teams/assistants/report/?period=week&start=2026-11-16&environment=production&zone=Europe%2FBerlin"
    )
    assert address in text
    assert address in unescape(mail.part("html"))


def test_hostile_names_are_text_in_a_mail_and_make_no_header(
    mail_server: MailServer, team: Team, ada: User
) -> None:
    Team.objects.filter(pk=team.pk).update(name=f"{HOSTILE}\r\nBcc: all@example.com")
    found = make_feature(team=team, name=HOSTILE, now=utc("2026-10-01"))
    rolled_up(found, {utc("2026-11-17 10:00"): (1000, 0)})
    weekly(ada, team)

    run(MONDAY)

    (mail,) = mail_server.mails
    assert mail.recipients == ("ada@example.com",)
    assert mail.message["Bcc"] is None
    assert "<img" not in mail.part("html")
    assert HOSTILE in mail.part("plain")


def test_nobody_gets_a_report_twice_whatever_the_beats_do(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    weekly(ada, team)

    for minutes in range(3):
        run(MONDAY + minutes * MINUTE)
    # Stopped and asked for again within the hour of its sending.
    Membership.objects.get(user=ada).report_subscriptions.all().delete()
    weekly(ada, team, now=MONDAY - timedelta(hours=1))
    run(MONDAY + timedelta(hours=1))

    assert len(mail_server.mails) == 1
    run(MONDAY + timedelta(days=7))
    assert len(mail_server.mails) == 2


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_write_one_mail_and_one_of_them_sends_it(mail_server: MailServer) -> None:
    team = make_team()
    weekly(make_person("ada@example.com", team=team), team)
    with other_connection() as other, other.cursor() as cursor:
        # The other beat is in the midst of writing it.
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM alerts_reportsubscription FOR UPDATE")
        assert report_mails.write_due(now=MONDAY) == 0
        cursor.execute("ROLLBACK")
    assert report_mails.write_due(now=MONDAY) == 1
    with other_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM alerts_reportmail FOR UPDATE")
        assert report_mails.claim(now=MONDAY) is None
        cursor.execute("ROLLBACK")

    assert report_mails.claim(now=MONDAY) is not None
    assert report_mails.claim(now=MONDAY) is None


def test_what_a_worker_that_died_had_claimed_is_sent_by_the_next(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    weekly(ada, team)
    report_mails.write_due(now=MONDAY)
    lost = report_mails.claim(now=MONDAY)
    assert lost is not None

    run(MONDAY + MINUTE)
    assert mail_server.mails == []
    run(MONDAY + report_mails.LEASE)

    (mail,) = mail_server.mails
    assert mail.message["Message-ID"] == f"<report-{lost.mail.message_id}@latency.example.com>"
    # It was not dead, only slow: what it says of its failure changes nothing any more.
    report_mails._note_failure(lost, report_mails.DeliveryError("too late"), MONDAY)
    assert ReportMail.objects.get().state == ReportMail.State.SENT


def test_a_mail_server_that_is_away_is_tried_again_and_gets_the_same_mail(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    mail_server.answer("MAIL", "451 4.3.0 later", "451 4.3.0 later")
    weekly(ada, team)

    run(MONDAY)
    assert "451 4.3.0 later" in ReportMail.objects.get().error
    run(MONDAY + MINUTE)
    run(MONDAY + 10 * MINUTE)

    assert len(mail_server.mails) == 1
    found = ReportMail.objects.get()
    assert (found.state, found.attempts_made) == (ReportMail.State.SENT, 3)


def test_a_mail_server_that_refuses_the_address_is_not_asked_again(
    mail_server: MailServer, team: Team, ada: User
) -> None:
    mail_server.answer("RCPT", "550 5.1.1 unknown")
    weekly(ada, team)

    run(MONDAY)
    run(MONDAY + timedelta(hours=1))

    found = ReportMail.objects.get()
    assert (found.state, found.reason, found.attempts_made) == ("given_up", "permanent_error", 1)


def test_after_a_day_without_a_mail_server_the_mail_is_given_up(settings: Any, team: Team, ada: User) -> None:
    with MailServer() as server:
        use_mail_server(settings, server)
    weekly(ada, team)

    run(MONDAY)
    run(MONDAY + timedelta(days=1, minutes=1))

    found = ReportMail.objects.get()
    assert (found.state, found.reason) == ("given_up", "deadline_passed")


def test_without_a_mail_server_the_latest_report_waits_for_one(
    settings: Any, team: Team, ada: User, feature: Feature
) -> None:
    settings.EMAIL_IS_CONFIGURED = False
    weekly(ada, team)
    run(MONDAY)
    assert not ReportMail.objects.exists()

    with MailServer() as server:
        use_mail_server(settings, server)
        run(MONDAY + timedelta(days=16))

        (mail,) = server.mails
    assert "30 November – 6 December" in mail.subject
    assert ReportMail.objects.get().first_day == date(2026, 11, 30)


def test_whoever_leaves_the_team_gets_no_more_reports_of_it(
    mail_server: MailServer, team: Team, ada: User
) -> None:
    weekly(ada, team)
    report_mails.write_due(now=MONDAY)
    remove_member(team=team, user_id=ada.pk, actor="a test", now=MONDAY)

    run(MONDAY + MINUTE)

    assert mail_server.mails == []
    assert not ReportSubscription.objects.exists()
    assert ReportMail.objects.get().reason == "unsubscribed"


def test_a_closed_account_gets_no_mail(mail_server: MailServer, team: Team, ada: User) -> None:
    weekly(ada, team)
    User.objects.filter(pk=ada.pk).update(is_active=False)

    run(MONDAY)

    assert mail_server.mails == []


def test_a_report_that_cannot_be_made_keeps_no_other_from_being_sent(
    mail_server: MailServer, team: Team, ada: User, feature: Feature
) -> None:
    weekly(ada, team)
    other = make_team()
    weekly(make_person("bob@example.com", team=other), other)
    with connection.cursor() as cursor:  # somebody wrote it into the database by hand
        report_mails.write_due(now=MONDAY)
        cursor.execute("UPDATE alerts_reportmail SET time_zone = 'Mars/Base' WHERE user_id = %s", [ada.pk])

    run(MONDAY)

    assert [mail.recipients for mail in mail_server.mails] == [("bob@example.com",)]


# -- subscribing and the way out


def test_a_subscription_that_cannot_be_is_refused_at_its_fields(team: Team, ada: User) -> None:
    for values, field in (
        ({"period": "year"}, "period"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"environment": "a\0b"}, "environment"),
    ):
        with pytest.raises(Refusal) as refused:
            weekly(ada, team, **values)
        assert (refused.value.code, list(refused.value.fields)) == ("invalid_report", [field])
    with pytest.raises(Refusal, match="is not in"):
        weekly(make_person("eve@example.com"), team)
    assert not ReportSubscription.objects.exists()


def test_a_change_of_a_subscription_is_kept_and_stands_in_the_audit_log(team: Team, ada: User) -> None:
    weekly(ada, team)
    changed = weekly(ada, team, time_zone="Asia/Tokyo")

    assert ReportSubscription.objects.get() == changed
    assert changed.due_at == utc("2026-11-22 22:00")
    entries = AuditEntry.objects.filter(action="report.subscribed").order_by("id")
    assert [entry.after["time_zone"] for entry in entries] == ["Europe/Berlin", "Asia/Tokyo"]


@pytest.fixture
def mailed(mail_server: MailServer, team: Team, ada: User, feature: Feature, plain_static_files: None) -> str:
    """The address under which the mail can be unsubscribed from, without its host."""
    weekly(ada, team)
    weekly(ada, team, period="month")
    run(MONDAY)
    (mail,) = mail_server.mails
    header = str(mail.message["List-Unsubscribe"]).strip()  # folded, as it is long
    assert mail.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    found = re.fullmatch(r"<http://127\.0\.0\.1:\d+(/reports/unsubscribe/\S+/)>", header)
    assert found, header
    assert found[1] in mail.part("plain")
    assert found[1] in mail.part("html")
    return found[1]


def periods_of(user: User) -> list[str]:
    return sorted(ReportSubscription.objects.filter(membership__user=user).values_list("period", flat=True))


def test_a_mail_program_unsubscribes_with_one_click_and_without_a_session(mailed: str, ada: User) -> None:
    program = Client(enforce_csrf_checks=True)
    for _ in range(2):  # repeating is harmless
        response = program.post(
            mailed, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
        )
        assert response.status_code == 200
        assert not response.cookies

    assert periods_of(ada) == ["month"]
    assert AuditEntry.objects.filter(action="report.unsubscribed", actor="ada@example.com").count() == 1


def test_opening_the_link_alone_changes_nothing(mailed: str, ada: User) -> None:
    body = page(Client(), mailed)

    assert "Stop this mail?" in body
    assert periods_of(ada) == ["month", "week"]
    assert "You get no more of them" in Client().post(mailed).content.decode()
    assert periods_of(ada) == ["month"]


def test_a_link_that_was_changed_ends_nothing(mailed: str, ada: User) -> None:
    for address in (
        mailed[:-2] + "/",
        mailed.replace("/unsubscribe/", "/unsubscribe/x"),
        "/reports/unsubscribe/x/",
    ):
        assert Client().post(address).status_code == 404
    assert periods_of(ada) == ["month", "week"]


def test_the_page_subscribes_and_stops(team: Team, ada: User, plain_static_files: None) -> None:
    client = signed_in(ada)
    address = "/teams/assistants/report/mail/?period=month&start=2026-10-01&zone=Asia%2FTokyo"
    values = {"period": "week", "time_zone": "Asia/Tokyo", "environment": "staging", "action": "start"}
    with time_machine.travel(FRIDAY, tick=False):
        response = client.post(address, values)
        assert response["Location"] == (
            "/teams/assistants/report/?period=month&start=2026-10-01&zone=Asia%2FTokyo"
        )
        text = text_of(page(client, response["Location"]))
        assert "The next weekly report is mailed on Mon 23 Nov, 07:00 JST." in text
        assert "You get it, by the clock of Asia/Tokyo, about staging" in text
        assert "No mail goes out" in text

        client.post(address, {"period": "week", "action": "stop"})
        assert periods_of(ada) == []
        text = text_of(page(client, response["Location"]))
        assert "You get no more weekly reports of Assistants." in text

        client.post(address, {**values, "time_zone": HOSTILE})
        assert "&lt;img" in page(client, response["Location"])


def test_the_page_tells_what_came_of_the_last_mail(
    mail_server: MailServer, team: Team, ada: User, plain_static_files: None
) -> None:
    weekly(ada, team)
    client = signed_in(ada)

    def told() -> str:
        with time_machine.travel(MONDAY + timedelta(hours=1), tick=False):
            return text_of(page(client, "/teams/assistants/report/?period=week&start=2026-11-16&zone=UTC"))

    mail_server.answer("MAIL", "451 4.3.0 later")
    run(MONDAY)
    assert "The last one, of 16–22 November 2026, is on its way: The mail server refused the sender" in told()
    run(MONDAY + 10 * MINUTE)
    assert "The last one, of 16–22 November 2026, was sent on Mon 23 Nov, 07:10 CET." in told()


def test_an_administrator_who_is_no_member_is_told_why_there_is_no_mail(
    team: Team, plain_static_files: None
) -> None:
    root = signed_in(User.objects.create_superuser("root@example.com"))
    with time_machine.travel(FRIDAY, tick=False):
        client_address = "/teams/assistants/report/?period=week&start=2026-11-09&zone=UTC"
        assert "Reports are mailed to members of a team" in page(root, client_address)
        root.post(
            "/teams/assistants/report/mail/",
            {"period": "week", "time_zone": "UTC", "environment": "production"},
        )
        assert "is not in Assistants" in page(root, client_address)
