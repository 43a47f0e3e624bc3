"""Guesses at a password are bounded by account and address, whatever a client says about itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.conf import settings as django_settings
from django.test import Client
from pytest_django import Settings

from budgets import login_attempts, tasks
from budgets.models import User
from budgets.passwords import reset_link
from tests.budgets.test_pages import text_of
from tests.factories import NOW
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

LIMIT = django_settings.AXES_FAILURE_LIMIT
EMAIL = "ada@example.com"
WRONG = "not the password"


@pytest.fixture
def ada() -> User:
    return make_person(EMAIL)


def attempt(
    password: str = WRONG,
    *,
    email: str = EMAIL,
    address: str = "203.0.113.7",
    login: str = "/login/",
    **headers: str,
) -> int:
    response = Client(REMOTE_ADDR=address, **headers).post(login, {"username": email, "password": password})
    return response.status_code


def lock(**where: str) -> None:
    statuses = [attempt(**where) for _ in range(LIMIT)]  # type: ignore[arg-type]
    assert statuses == [200] * (LIMIT - 1) + [429]


def test_after_so_many_failures_even_the_right_password_has_to_wait(ada: User) -> None:
    with time_machine.travel(NOW, tick=False):
        lock()
        response = Client(REMOTE_ADDR="203.0.113.7").post(
            "/login/", {"username": EMAIL, "password": PASSWORD}
        )

    assert response.status_code == 429
    assert response["Retry-After"] == "900"
    text = text_of(response.content.decode())
    assert "Too many wrong passwords" in text
    assert "until 21 Nov 2026, 20:15:30 UTC, in 15 minutes" in text
    assert "_auth_user_id" not in response.client.session  # type: ignore[attr-defined]


def test_the_wait_is_counted_from_the_last_guess_and_not_prolonged_by_asking(ada: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        lock()
        clock.shift(timedelta(minutes=14, seconds=59))
        assert attempt(PASSWORD) == 429
        clock.shift(timedelta(seconds=2))
        assert attempt(PASSWORD) == 302


def test_a_success_forgets_what_was_mistyped(ada: User) -> None:
    for _ in range(3):
        assert [attempt() for _ in range(LIMIT - 1)] == [200] * (LIMIT - 1)
        assert attempt(PASSWORD) == 302


def test_the_person_is_not_locked_out_elsewhere_and_neither_are_others_here(ada: User) -> None:
    make_person("bob@example.com")
    lock()
    assert attempt(PASSWORD, address="198.51.100.4") == 302
    assert attempt(PASSWORD, email="bob@example.com") == 302


def test_neither_capitals_nor_another_browser_nor_another_door_give_more_guesses(ada: User) -> None:
    ada.is_staff = True
    ada.save()
    guesses = [
        {},
        {"email": "ADA@example.com"},
        {"HTTP_USER_AGENT": "another"},
        {"login": "/admin/login/"},
        {"HTTP_USER_AGENT": "a third", "email": " Ada@Example.com"},
    ]
    assert len(guesses) == LIMIT
    statuses = [attempt(**guess) for guess in guesses]  # type: ignore[arg-type]
    assert statuses[-1] == 429
    assert attempt(PASSWORD, login="/admin/login/") == 429
    assert attempt(PASSWORD, HTTP_USER_AGENT="a fourth") == 429


def test_an_address_that_a_client_makes_up_gives_no_more_guesses(ada: User) -> None:
    """Neither without a proxy nor behind one, which appends the true address."""
    forged = [
        {"HTTP_X_FORWARDED_FOR": f"198.51.100.{n}", "HTTP_X_REAL_IP": f"192.0.2.{n}"} for n in range(LIMIT)
    ]
    assert [attempt(**headers) for headers in forged][-1] == 429


def test_behind_a_proxy_the_client_is_who_the_proxy_says(ada: User, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = 1
    statuses = [
        attempt(address="10.0.0.9", HTTP_X_FORWARDED_FOR=f"198.51.100.{n}, 203.0.113.7") for n in range(LIMIT)
    ]
    assert statuses[-1] == 429
    # Somebody else behind the same proxy.
    assert attempt(PASSWORD, address="10.0.0.9", HTTP_X_FORWARDED_FOR="203.0.113.8") == 302


def test_an_account_that_is_not_there_is_locked_alike() -> None:
    lock(email="nobody@example.com")


def test_redis_takes_no_part_in_it(ada: User, settings: Settings) -> None:
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:9/0", "OPTIONS": {}},
    }
    lock()
    assert attempt(PASSWORD, address="198.51.100.4") == 302


def test_a_new_password_by_mail_ends_the_wait(ada: User) -> None:
    lock()
    link = reset_link(ada).removeprefix(django_settings.PUBLIC_URL)
    visitor = Client()
    form = visitor.get(link, follow=True)
    new = "seven purple lamps"
    visitor.post(form.redirect_chain[-1][0], {"new_password1": new, "new_password2": new})

    assert attempt(new) == 302


def test_no_password_is_kept_of_an_attempt(ada: User) -> None:
    attempt("my other password")
    [row] = AccessAttempt.objects.values()
    assert "my other password" not in str(row)
    assert "csrfmiddlewaretoken" not in str(row) or "****" in str(row)


def test_attempts_go_after_a_day(ada: User) -> None:
    with time_machine.travel(NOW, tick=False):
        attempt()
        assert login_attempts.forget(now=NOW + timedelta(days=1)) == 0
    assert AccessAttempt.objects.count() == 1
    with time_machine.travel(NOW + timedelta(days=1, seconds=1), tick=False):
        tasks.maintain()
    assert not AccessAttempt.objects.exists()
