"""Advisory locks of alerts that outlive a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from budgets.locks import NAMESPACE

EVALUATION_SWEEP = 100


@contextmanager
def try_hold(what: int) -> Iterator[bool]:
    """Whether this session got the lock, which it then holds to the end of the block.

    The block may commit as often as it likes. A session that dies gives the lock back.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [NAMESPACE, what])
        is_held = bool(cursor.fetchone()[0])
    try:
        yield is_held
    finally:
        if is_held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [NAMESPACE, what])
