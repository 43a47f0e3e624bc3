"""PostgreSQL advisory locks, held until the transaction ends: one number for each thing that is serial."""

from __future__ import annotations

from django.db import connection

# The first key is ours; the second says what is locked. Alerts take theirs from 100 on.
NAMESPACE = 0x1A7E
PARTITIONS = 1
ROLL_UP = 2  # shared by roll-ups, exclusive to a rebuild, so that it sees all of a range or none
COMPACT = 3
REJUDGE = 4
DISCARD = 5
ACCOUNT_MAILS = 20  # counting them and adding one


def lock(what: int) -> None:
    """Waits until this transaction alone holds the lock."""
    _call("pg_advisory_xact_lock", what)


def lock_shared(what: int) -> None:
    """Waits until no transaction holds the lock alone."""
    _call("pg_advisory_xact_lock_shared", what)


def try_lock(what: int) -> bool:
    """Takes the lock if nobody holds it."""
    return bool(_call("pg_try_advisory_xact_lock", what))


def _call(function: str, what: int) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [NAMESPACE, what])
        return cursor.fetchone()[0]
