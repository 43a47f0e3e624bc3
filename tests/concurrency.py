"""What tests of races need: verbs run in threads with connections of their own, and a view of who waits for whom."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.children import eventually


@contextlib.contextmanager
def in_thread(verb: Callable[..., Any], /, *args: Any, **named: Any) -> Iterator[Future[Any]]:
    """Runs a verb beside the block; its connection is closed and its outcome is awaited at the end."""

    def run() -> Any:
        try:
            return verb(*args, **named)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)


@contextlib.contextmanager
def other_connection() -> Iterator[BaseDatabaseWrapper]:
    """A second connection to the test's database, for this thread; what it left open is rolled back."""
    other = connection.copy()
    try:
        yield other
    finally:
        other.close()


@contextlib.contextmanager
def held(query: str, parameters: list[Any] | None = None) -> Iterator[None]:
    """Holds the locks that a query takes, in a transaction of another connection, until the end of the block."""
    with other_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(query, parameters)
            yield
        other.rollback()


def waits_for_lock(*words: str) -> bool:
    """Whether in time a statement that holds these words waits for a lock in the test's database."""
    with other_connection() as other, other.cursor() as cursor:

        def is_waiting() -> bool:
            cursor.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return any(all(word in query for word in words) for (query,) in cursor.fetchall())

        return eventually(is_waiting)
