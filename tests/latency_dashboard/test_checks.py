"""Every system check speaks up at its mistake, with a hint, and is silent without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from redis import Redis

from latency_dashboard import checks
from tests.children import PROJECT

SOUND: dict[str, Any] = {
    "DEBUG": False,
    "PUBLIC_URL": "https://latency.example.org",
    "ALLOWED_HOSTS": ["latency.example.org"],
    "SECRET_KEY": "s" * 10 + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
    "KEY_PEPPER": "p" * 10 + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
    "METRICS_TOKEN": "",
    "EMAIL_IS_CONFIGURED": True,
    "EMBEDDED_POSTGRES": False,
    "EMBEDDED_REDIS": False,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    "LOG_FORMAT": "json",
}
MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("E001", {"RAW_RETENTION_DAYS": 20, "MINUTE_RETENTION_DAYS": 14}),
    ("E001", {"RAW_RETENTION_DAYS": 0}),
    ("E002", {"OUTBOUND_ALLOWED_CIDRS": ["10.1.0.0/99"]}),
    ("E010", {"APPRISE_SCHEMES": ["pover", "jsons"]}),
    ("E010", {"APPRISE_SCHEMES": ["Pover"]}),
    ("E003", {"TRUSTED_PROXIES": -1}),
    ("E003", {"AXES_FAILURE_LIMIT": 0}),
    ("E003", {"AXES_COOLOFF_TIME": timedelta(0)}),
    ("E004", {"PUBLIC_URL": "latency.example.org"}),
    ("E004", {"PUBLIC_URL": "ftp://latency.example.org"}),
    ("E005", {"ALLOWED_HOSTS": ["other.example.org"]}),
    ("E005", {"ALLOWED_HOSTS": []}),
    ("E006", {"KEY_PEPPER": SOUND["SECRET_KEY"]}),
    ("E007", {"LOG_FORMAT": "xml"}),
    ("W001", {"EMAIL_IS_CONFIGURED": False}),
    ("W002", {"PUBLIC_URL": "http://latency.example.org"}),
    ("W003", {"ALLOWED_HOSTS": ["*"]}),
    ("W004", {"SECRET_KEY": "short"}),
    ("W004", {"KEY_PEPPER": "short"}),
    ("W004", {"METRICS_TOKEN": "short"}),
    ("W005", {"EMBEDDED_POSTGRES": True}),
    ("W005", {"EMBEDDED_REDIS": True}),
    ("W006", {"SECURE_PROXY_SSL_HEADER": None}),
]


def found(**mistaken: Any) -> list[CheckMessage]:
    """What our checks say under sound settings but for these."""
    with override_settings(**SOUND), override_settings(**mistaken):
        said = run_checks(include_deployment_checks=True, databases=["default"])
    return [message for message in said if str(message.id).startswith("latency_dashboard.")]


def ids(said: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("latency_dashboard.") for message in said]


@pytest.mark.django_db
def test_sound_settings_are_silent() -> None:
    assert found() == []


@pytest.mark.django_db
@pytest.mark.parametrize(("expected", "mistaken"), MISTAKES, ids=lambda one: str(one)[:60])
def test_a_mistake_in_settings_is_told_with_a_hint(expected: str, mistaken: dict[str, Any]) -> None:
    said = found(**mistaken)
    assert ids(said) == [expected]
    assert said[0].hint


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_plain_http_on_ones_own_machine_is_no_mistake(host: str) -> None:
    said = found(PUBLIC_URL=f"http://{host}", ALLOWED_HOSTS=["127.0.0.1", "localhost", "[::1]", "::1"])
    assert said == []


@pytest.mark.django_db
def test_a_host_may_be_allowed_by_its_domain() -> None:
    assert found(ALLOWED_HOSTS=[".example.org"]) == []


def test_a_redis_that_drops_queued_tasks_is_told(settings: Any) -> None:
    with Redis.from_url(settings.CACHES["default"]["LOCATION"]) as redis:
        before = redis.config_get("maxmemory-policy")["maxmemory-policy"]
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            said = checks.check_redis()
        finally:
            redis.config_set("maxmemory-policy", before)
    assert ids(said) == ["W007"]
    assert checks.check_redis() == []


def test_a_redis_that_is_away_is_no_mistake_in_settings(settings: Any) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    assert checks.check_redis() == []


def test_an_old_postgresql_is_refused() -> None:
    assert ids(list(checks._complaints_about_version(14_0022))) == ["E008"]
    assert ids(list(checks._complaints_about_version(15_0000))) == []


@contextmanager
def another_database(options: str) -> Iterator[Any]:
    """A connection to an empty database of the test's server that was made with these options."""
    name = f"{connection.settings_dict['NAME']}_other"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {options}')
    other = connection.copy()
    other.settings_dict = {**connection.settings_dict, "NAME": name}
    try:
        yield other
    finally:
        other.close()
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}"')


@pytest.mark.django_db(transaction=True)
def test_a_database_that_cannot_hold_every_name_is_refused() -> None:
    with another_database("ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc") as other:
        assert ids(list(checks._complaints_about(other))) == ["E009"]


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-60, 60])
def test_clocks_that_differ_are_told(seconds: float) -> None:
    with time_machine.travel(timezone.now() + timedelta(seconds=seconds), tick=True):
        said = checks.check_postgres(databases=["default"])
    assert ids(said) == ["W008"]
    assert "60 s" in said[0].msg or "59 s" in said[0].msg


def test_a_database_that_is_away_is_no_mistake_in_settings(
    monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> None:
    from django.db import ConnectionHandler

    nowhere = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": "1"}
    monkeypatch.setattr(checks, "connections", ConnectionHandler({"default": nowhere}))
    with django_db_blocker.unblock():
        assert checks.check_postgres(databases=["default"]) == []


def test_the_list_of_checks_has_each_once_and_each_is_tried_here() -> None:
    source = set(
        re.findall(r"latency_dashboard\.([EW]\d{3})", (PROJECT / "latency_dashboard/checks.py").read_text())
    )
    listed = re.findall(
        r"^\| `latency_dashboard\.([EW]\d{3})`",
        (PROJECT / "docs/reference/checks.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(source) == listed
    tried = {name for name, _ in MISTAKES} | {"W007", "W008", "E008", "E009"}
    assert source == tried
