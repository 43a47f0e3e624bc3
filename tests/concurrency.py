"""What tests of races need: verbs in threads with connections of their own, and locks that stop them midway."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.children import eventually

Start = Callable[[Callable[[], Any]], "Future[Any]"]


@contextlib.contextmanager
def other_connection() -> Iterator[BaseDatabaseWrapper]:
    """A second connection to the test's database, for this thread; what it left open is rolled back."""
    other = connection.copy()
    try:
        yield other
    finally:
        other.close()


@contextlib.contextmanager
def held(query: str, parameters: Sequence[Any] = ()) -> Iterator[Start]:
    """Holds the locks that a query takes until the end of the block, in another connection.

    Gives what starts a verb in a thread. The locks are let go at the end of the block, and then the verbs end
    before the test goes on, also where it failed.
    """
    with ThreadPoolExecutor(8) as pool, other_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(query, parameters)
        yield lambda verb: pool.submit(_with_own_connection, verb)
        other.rollback()


def at_once(*verbs: Callable[[], Any]) -> list[Any]:
    """Runs verbs side by side and gives what they return."""
    with ThreadPoolExecutor(len(verbs)) as pool:
        return list(pool.map(_with_own_connection, verbs))


def _with_own_connection(verb: Callable[[], Any]) -> Any:
    try:
        return verb()
    finally:
        connections.close_all()


def is_waiting(*words: str, count: int = 1) -> bool:
    """Whether in time so many statements that hold these words wait for a lock in the test's database."""
    with other_connection() as other, other.cursor() as cursor:

        def are_enough() -> bool:
            cursor.execute(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return sum(all(word in query for word in words) for (query,) in cursor.fetchall()) >= count

        return eventually(are_enough)
