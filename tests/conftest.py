"""What every test may rely on, and what a process keeps between requests, forgotten between tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management.color import no_style
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings

from budgets import doorbell, ingest, series
from tests.api import Api
from tests.factories import make_key, make_team

# Machines are busy, so no example has a deadline. A change is judged by the same examples each time; to look for
# others: pytest --hypothesis-profile search.
for _name, _is_fixed in (("same examples", True), ("search", False)):
    hypothesis_settings.register_profile(
        _name, deadline=None, derandomize=_is_fixed, suppress_health_check=[HealthCheck.too_slow]
    )
hypothesis_settings.load_profile("same examples")

# Whoever logs in does so with a password that was hashed; which hasher the product has, its settings say.
django_settings.PASSWORD_HASHERS = [
    "tests.people.QuickHasher",
    *(name for name in django_settings.PASSWORD_HASHERS if "Argon2" not in name),
]


# What Django writes about its models. To write it again takes longer than to empty all the rest.
_WRITTEN_BY_DJANGO = {"django_content_type", "auth_permission"}


def _empty_every_table(case: TransactionTestCase) -> None:
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False))
    statements = connection.ops.sql_flush(no_style(), sorted(tables - _WRITTEN_BY_DJANGO))
    connection.ops.execute_sql_flush(statements)


TransactionTestCase._fixture_teardown = _empty_every_table  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def static_root() -> None:
    """WhiteNoise looks for it as soon as a request is made."""
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def plain_static_files(settings: Settings) -> None:
    """Static files under their own names, found where they lie."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True)
def _forget_what_a_process_keeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts as a fresh process does: no known series, no counted backlog, no silenced doorbell.

    What was to be rung soon has been rung before the next one starts.
    """
    series._known.clear()
    ingest._backlogs.clear()
    monkeypatch.setattr(doorbell, "_silent_until", 0.0)
    monkeypatch.setattr(doorbell, "_APART_S", 0.0)
    yield
    doorbell._ringer.submit(lambda: None).result()


@pytest.fixture
def api(db: None) -> Api:
    """The HTTP API for a team of its own, with a key of every scope."""
    team = make_team()
    return Api(team, make_key(team)[1])
