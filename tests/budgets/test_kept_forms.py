"""A form that is sent after its session has ended: kept through the login, and sent by a click alone."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from alerts.models import Channel
from budgets.models import Invitation, Membership, Team
from tests.factories import make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

EMAIL = "ada@example.com"
MEMBERS = "/teams/assistants/"
NEW = "/teams/assistants/channels/new/?kind=email"


@pytest.fixture
def team() -> Team:
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.ADMIN)
    return team


@pytest.fixture
def browser(team: Team) -> Client:
    """Checks tokens, has looked at a form, and has lost its session since."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(team.memberships.get().user)
    assert client.get(NEW).status_code == 200
    Session.objects.all().delete()
    return client


def fields_of(answer: HttpResponse, action: str) -> dict[str, Any]:
    """The hidden fields of the form that goes to this address."""
    html = answer.content.decode()
    form = next(
        one for one in re.findall(r"<form.*?</form>", html, re.S) if f'action="{action}"' in unescape(one)
    )
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input type=\"hidden\"[^>]*>", form, re.S):
        name, value = re.findall(r'(?:name|value)="([^"]*)"', tag, re.S)
        found.setdefault(name, []).append(unescape(value))
    return found


def post(client: Client, path: str, values: dict[str, Any], **headers: Any) -> Any:
    token = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    return client.post(path, token | values, headers=headers)


def log_in(client: Client, page: Any, password: str = PASSWORD) -> Any:
    return client.post("/login/", fields_of(page, "/login/") | {"username": EMAIL, "password": password})


TYPED = {"name": "on-call", "to": "a@example.com\r\nb@example.com", "min_severity": "page"}
FROM_PAGE = {"Referer": f"http://testserver{NEW}"}


def test_what_was_typed_outlives_the_session_and_is_sent_by_a_click(browser: Client, team: Team) -> None:
    asked = post(browser, NEW, TYPED, **FROM_PAGE)
    assert asked.status_code == 200
    assert "Your session has ended. What you typed is kept" in asked.content.decode()
    assert "no-store" in asked["Cache-Control"]

    shown = log_in(browser, asked)
    text = shown.content.decode()
    assert "Your form was not sent yet" in text
    assert "a@example.com\r\nb@example.com" in text
    assert not Channel.objects.exists(), "nothing is done without a click"

    sent = browser.post(NEW, fields_of(shown, NEW))
    made = Channel.objects.get()
    assert sent["Location"] == f"/teams/assistants/channels/{made.pk}/"
    assert (made.name, made.config) == ("on-call", {"to": ["a@example.com", "b@example.com"]})


def test_a_wrong_password_and_a_reload_lose_nothing(browser: Client, team: Team) -> None:
    asked = post(browser, NEW, TYPED, **FROM_PAGE)
    refused = log_in(browser, asked, password="not this one")
    assert fields_of(refused, "/login/")["kept_form"] == fields_of(asked, "/login/")["kept_form"]
    shown = log_in(browser, refused)
    again = browser.post(
        "/login/",
        {**fields_of(refused, "/login/"), "csrfmiddlewaretoken": browser.cookies["csrftoken"].value},
    )
    for page in (shown, again):
        assert fields_of(page, NEW)["name"] == ["on-call"]


def test_who_is_locked_out_loses_nothing_either(browser: Client, team: Team) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        asked = post(browser, NEW, TYPED, **FROM_PAGE)
        for _ in range(settings.AXES_FAILURE_LIMIT):
            locked = log_in(browser, asked, password="not this one")
        assert locked.status_code == 429
        assert "What you typed is kept" in locked.content.decode()
        attempts = AccessAttempt.objects.get().failures_since_start

        clock.shift(timedelta(minutes=16))
        back = browser.post("/login/", fields_of(locked, "/login/"))
        assert back.status_code == 200
        assert "This field is required" not in back.content.decode()
        assert AccessAttempt.objects.get().failures_since_start == attempts
        assert fields_of(back, "/login/")["next"] == [NEW]
        assert fields_of(log_in(browser, back), NEW)["name"] == ["on-call"]


def test_the_page_of_who_is_locked_out_carries_nothing_that_was_not_signed(browser: Client) -> None:
    token = browser.cookies["csrftoken"].value
    made_up = {"username": EMAIL, "password": "wrong", "kept_form": "made up", "csrfmiddlewaretoken": token}
    for _ in range(settings.AXES_FAILURE_LIMIT):
        locked = browser.post("/login/", made_up)
    assert locked.status_code == 429
    assert "made up" not in locked.content.decode()
    assert 'href="/login/">Back to the login' in locked.content.decode()


def test_secrets_are_left_out_and_said_to_be(browser: Client, team: Team) -> None:
    path = "/teams/assistants/channels/new/?kind=webhook"
    secrets = {"url": "https://hooks.example.com/hidden-path", "secret": "whsec_hidden"}
    asked = post(browser, path, {"name": "hook", **secrets}, **FROM_PAGE)
    shown = log_in(browser, asked)
    assert set(fields_of(shown, path)) == {"csrfmiddlewaretoken", "name"}
    text = shown.content.decode()
    assert "Left out, because it is secret: secret, url." in text
    assert "hooks.example.com" not in text
    assert "whsec_hidden" not in text


def test_whoever_leaves_it_gets_back_to_the_page_and_not_to_an_address_that_takes_forms_alone(
    browser: Client, team: Team
) -> None:
    path = "/teams/assistants/members/999/role/"
    asked = post(browser, path, {"role": "viewer"}, Referer=f"http://testserver{MEMBERS}")
    assert fields_of(asked, "/login/")["next"] == [MEMBERS]
    assert f'href="{MEMBERS}">Leave it' in log_in(browser, asked).content.decode()


def test_a_page_elsewhere_is_nowhere_to_go_back_to(browser: Client, team: Team) -> None:
    asked = post(browser, NEW, TYPED, Referer="https://evil.example/page")
    assert fields_of(asked, "/login/")["next"] == ["/"]


def test_without_a_valid_token_nothing_is_kept(browser: Client, team: Team) -> None:
    answer = browser.post(NEW, TYPED | {"csrfmiddlewaretoken": "x" * 64})
    assert answer.status_code == 403
    assert b"on-call" not in answer.content


def test_what_was_not_signed_here_or_is_old_is_not_shown(browser: Client, team: Team) -> None:
    asked = post(browser, NEW, TYPED, **FROM_PAGE)
    fields = fields_of(asked, "/login/") | {"username": EMAIL, "password": PASSWORD}
    [signed] = fields["kept_form"]
    forged = browser.post(
        "/login/", fields | {"kept_form": f"{signed[:-1]}{'A' if signed[-1] != 'A' else 'B'}"}
    )
    assert forged["Location"] == NEW
    browser.logout()
    browser.get("/login/")
    token = {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value}
    with time_machine.travel(timezone.now() + timedelta(hours=2, minutes=1), tick=False):
        late = browser.post("/login/", fields | token)
    assert late["Location"] == NEW


def test_scripts_and_strangers_are_led_to_the_login_as_ever(browser: Client, team: Team) -> None:
    for headers in ({"HX-Request": "true"}, {"Sec-Fetch-Mode": "same-origin"}):
        assert post(browser, NEW, TYPED, **headers)["Location"].startswith("/login/?next=")
    assert Client().post(NEW, TYPED)["Location"].startswith("/login/?next=")
    assert post(browser, "/logout/", {})["Location"] == "/login/"


def test_hostile_texts_are_letters(browser: Client, team: Team) -> None:
    hostile = '"><script>alert(1)</script>'
    shown = log_in(browser, post(browser, NEW, {**TYPED, "name": hostile, hostile: "x"}, **FROM_PAGE))
    assert "<script>alert" not in shown.content.decode()
    assert fields_of(shown, NEW)["name"] == [hostile]


def test_a_form_of_members_is_sent_as_it_was(browser: Client, team: Team) -> None:
    shown = log_in(
        browser, post(browser, MEMBERS, {"email": "new@example.com", "role": "viewer"}, **FROM_PAGE)
    )
    browser.post(MEMBERS, fields_of(shown, MEMBERS))
    assert Invitation.objects.get().email == "new@example.com"
