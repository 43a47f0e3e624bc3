"""Kept connections: taken for usable without a trip to PostgreSQL, and never once it has ended them."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from latency_dashboard.postgresql.base import _is_quiet
from tests.children import eventually
from tests.concurrency import other_connection

pytestmark = pytest.mark.django_db(transaction=True)


def pid_of() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_a_connection_on_which_nothing_came_in_is_usable_without_a_statement() -> None:
    pid_of()
    with CaptureQueriesContext(connection) as queries:
        assert connection.is_usable()
    assert len(queries) == 0


def test_a_connection_that_postgresql_ended_is_replaced_before_the_next_request() -> None:
    pid = pid_of()
    with other_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert not connection.is_usable()
    connection.close_if_unusable_or_obsolete()  # as each request begins
    assert pid_of() != pid


def test_a_connection_on_which_something_came_in_unasked_is_kept() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN news")
    pid = pid_of()
    with other_connection() as other, other.cursor() as cursor:
        cursor.execute("NOTIFY news")
        assert eventually(lambda: not _is_quiet(connection.connection.fileno()))

    assert connection.is_usable()
    assert pid_of() == pid


def test_a_closed_connection_is_not_usable() -> None:
    connection.ensure_connection()
    connection.connection.close()

    assert not connection.is_usable()
    connection.close()
