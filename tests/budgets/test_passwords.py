"""Forgotten and changed passwords, and what no answer tells about accounts."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from budgets import passwords, tasks
from budgets.account_mails import PER_HOUR_FROM_A_SOURCE, PER_HOUR_TO_AN_ADDRESS
from budgets.models import AccountMail, AuditEntry, User
from tests.budgets.test_pages import page, signed_in, text_of
from tests.factories import NOW
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "mail_server")]

FORGOTTEN = "/password/forgotten/"
EMAIL = "ada@example.com"
NEW = "seven purple lamps"


@pytest.fixture
def mail_server(settings: Settings) -> None:
    settings.EMAIL_IS_CONFIGURED = True
    settings.PUBLIC_URL = "https://latency.example.org"


@pytest.fixture
def ada() -> User:
    return make_person(EMAIL)


def ask(client: Client, email: str = EMAIL) -> str:
    response = client.post(FORGOTTEN, {"email": email}, follow=True)
    return text_of(response.content.decode())


def mailed_link() -> str:
    found = re.search(r"https://latency\.example\.org(/password/reset/\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found[1]


def set_password(link: str, new: str = NEW) -> str:
    visitor = Client()
    form = visitor.get(link, follow=True)
    where = form.redirect_chain[-1][0] if form.redirect_chain else link
    response = visitor.post(where, {"new_password1": new, "new_password2": new}, follow=True)
    return text_of(response.content.decode())


def can_log_in(password: str, email: str = EMAIL) -> bool:
    return Client().post("/login/", {"username": email, "password": password}).status_code == 302


def test_the_login_leads_to_it(client: Client) -> None:
    assert f'href="{FORGOTTEN}"' in page(client, "/login/")


def test_a_link_sets_a_new_password_once(client: Client, ada: User) -> None:
    assert "Look into your mail" in ask(client, " Ada@Example.com")
    tasks.send_account_mails()
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == ([EMAIL], "A new password for Latency Dashboard")
    link = mailed_link()

    assert "Your new password is set. Log in with it." in set_password(link)
    assert can_log_in(NEW)
    assert not can_log_in(PASSWORD)
    assert "This link does not work any more" in set_password(link, "another good one")
    assert can_log_in(NEW)
    entry = AuditEntry.objects.get(action="user.password_reset")
    assert (entry.actor, entry.team, entry.after) == (EMAIL, None, {})


def test_a_link_works_for_four_hours(client: Client, ada: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        ask(client)
        tasks.send_account_mails()
        clock.shift(timedelta(hours=4, seconds=1))
        assert "This link does not work any more" in set_password(mailed_link())
    assert can_log_in(PASSWORD)


@pytest.mark.parametrize("action", ["user.password_reset", "user.password_changed"])
def test_no_password_is_new_that_is_not_written_down(ada: User, action: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE budgets_auditentry ADD CHECK (action <> '{action}')")
    visitor = signed_in(ada)
    visitor.raise_request_exception = False

    if action == "user.password_reset":
        ada.refresh_from_db()  # a link is worth nothing after the next login
        link = passwords.reset_link(ada).removeprefix("https://latency.example.org")
        where = visitor.get(link, follow=True).redirect_chain[-1][0]
        answer = visitor.post(where, {"new_password1": NEW, "new_password2": NEW})
    else:
        data = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
        answer = visitor.post(TestChange.PAGE, data)

    assert answer.status_code == 500
    ada.refresh_from_db()
    assert ada.check_password(PASSWORD)


def test_no_answer_tells_whether_there_is_an_account(ada: User) -> None:
    User.objects.create(email="no-password@example.com", password="!")
    User.objects.create(email="off@example.com", password=ada.password, is_active=False)
    answers, statements = set(), set()
    for email in (EMAIL, "nobody@example.com", "no-password@example.com", "off@example.com"):
        with CaptureQueriesContext(connection) as queries:
            answers.add(ask(Client(), email))
        statements.add(len(queries))
        assert mail.outbox == []  # nothing is sent within the request, whose time would tell
    assert len(answers) == len(statements) == 1

    tasks.send_account_mails()

    assert [sent.to for sent in mail.outbox] == [[EMAIL]]
    assert not AccountMail.objects.filter(due_at__isnull=False).exists()


def test_an_address_gets_few_mails_an_hour_whether_or_not_it_has_an_account(ada: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        refused = set()
        for email in (EMAIL, "nobody@example.com"):
            for number in range(PER_HOUR_TO_AN_ADDRESS):
                assert "Look into your mail" in ask(Client(REMOTE_ADDR=f"203.0.113.{number}"), email)
            response = Client(REMOTE_ADDR="203.0.113.99").post(FORGOTTEN, {"email": email})
            assert response.status_code == 429
            refused.add(text_of(response.content.decode()).replace(email, ""))
        assert len(refused) == 1
        assert "you can ask again after 21 Nov 2026, 21:00:30 UTC" in refused.pop()
        tasks.send_account_mails()
        assert len(mail.outbox) == PER_HOUR_TO_AN_ADDRESS
        clock.shift(timedelta(hours=1))
        assert "Look into your mail" in ask(Client())


def test_one_address_of_the_network_asks_for_few_accounts_an_hour(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = 1

    def ask_for(number: int) -> int:
        forged = f"198.51.100.{number}, 203.0.113.7"
        client = Client(REMOTE_ADDR="10.0.0.9", HTTP_X_FORWARDED_FOR=forged)
        return client.post(FORGOTTEN, {"email": f"p{number}@example.com"}).status_code

    assert {ask_for(number) for number in range(PER_HOUR_FROM_A_SOURCE)} == {302}
    assert ask_for(99) == 429
    assert AccountMail.objects.count() == PER_HOUR_FROM_A_SOURCE


@pytest.mark.parametrize("email", ["", "nobody", "a@example.com\nBcc: b@example.com", "a\0@example.com"])
def test_what_is_no_address_is_said_at_the_field(client: Client, email: str) -> None:
    response = client.post(FORGOTTEN, {"email": email})
    assert response.status_code == 400
    assert 'aria-invalid="true"' in response.content.decode()
    assert not AccountMail.objects.exists()


def test_the_link_names_the_installation_and_not_the_host_that_was_asked(
    ada: User, settings: Settings
) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    Client(HTTP_HOST="evil.example").post(FORGOTTEN, {"email": EMAIL})
    tasks.send_account_mails()
    assert "evil.example" not in str(mail.outbox[0].body)
    assert mailed_link()


def test_a_mail_server_that_is_away_is_tried_again_every_minute_for_an_hour(
    ada: User, settings: Settings
) -> None:
    here = settings.EMAIL_BACKEND
    passwords.ask_for_reset(email=EMAIL, source="203.0.113.7", now=NOW)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert passwords.send_due_resets(now=NOW) == 0
    settings.EMAIL_BACKEND = here
    assert passwords.send_due_resets(now=NOW + timedelta(seconds=59)) == 0
    assert passwords.send_due_resets(now=NOW + timedelta(seconds=60)) == 1
    assert passwords.send_due_resets(now=NOW + timedelta(seconds=121)) == 0

    passwords.ask_for_reset(email=EMAIL, source="203.0.113.7", now=NOW)
    assert passwords.send_due_resets(now=NOW + timedelta(hours=1, seconds=1)) == 0
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("is_embedded", "said"),
    [(True, "The mail is written into the server's logs instead"), (False, "manage.py changepassword")],
)
def test_without_a_mail_server_the_page_says_what_helps(
    client: Client, settings: Settings, is_embedded: bool, said: str
) -> None:
    settings.EMAIL_IS_CONFIGURED, settings.EMBEDDED_POSTGRES = False, is_embedded
    assert said in text_of(page(client, FORGOTTEN))
    assert said in text_of(page(client, "/password/asked/"))


class TestChange:
    PAGE = "/password/change/"

    @pytest.fixture
    def at_desk(self, ada: User) -> Client:
        return signed_in(ada)

    def change(self, client: Client, old: str = PASSWORD, new: str = NEW, again: str = "") -> str:
        data = {"old_password": old, "new_password1": new, "new_password2": again or new}
        return text_of(client.post(self.PAGE, data, follow=True).content.decode())

    def test_other_browsers_are_logged_out_and_this_one_is_not(self, at_desk: Client, ada: User) -> None:
        elsewhere = signed_in(ada)

        assert "Your password is changed. Other browsers are logged out." in self.change(at_desk)

        assert at_desk.get("/").status_code == 200
        assert elsewhere.get("/").status_code == 302
        assert can_log_in(NEW)
        assert AuditEntry.objects.get().action == "user.password_changed"

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"old": "wrong"}, "This is not your current password."),
            ({"new": "short"}, "too short"),
            ({"new": "ada@example.com"}, "too similar"),
            ({"again": "something else"}, "didn’t match"),
        ],
        ids=str,
    )
    def test_what_is_wrong_is_said_and_nothing_changes(
        self, at_desk: Client, wrong: dict[str, str], said: str
    ) -> None:
        assert said in self.change(at_desk, **wrong)
        assert can_log_in(PASSWORD)

    def test_it_is_for_who_is_logged_in_and_the_menu_leads_there(
        self, client: Client, at_desk: Client
    ) -> None:
        assert client.get(self.PAGE)["Location"] == f"/login/?next={self.PAGE}"
        assert f'href="{self.PAGE}"' in page(at_desk, "/")
