"""Advisory locks of alerts: one sweep at a time, and one evaluation of a feature at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from django.db import Error, connection

from budgets.locks import NAMESPACE

EVALUATION_SWEEP = 100
FOLLOW_UP_SWEEP = 101
# Above the ids of features in a key of 64 bits, which PostgreSQL keeps apart from pairs of 32 bits.
_FEATURE = NAMESPACE << 48


@contextmanager
def try_hold(what: int) -> Iterator[bool]:
    """Whether this process got the lock, which it then holds to the end of the block.

    The block may commit as often as it likes: the lock is a transaction's on a connection of its own, which does
    nothing else. A lock of the session would do without, but behind a PgBouncer that pools transactions it would
    stay with a server's connection that others use. A process that dies gives the lock back.
    """
    own = connection.copy()
    try:
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [NAMESPACE, what])
            is_held = bool(cursor.fetchone()[0])
        try:
            yield is_held
        finally:
            # A server that has lost a connection keeps its locks until it notices, a moment after this has returned.
            with suppress(Error):
                own.rollback()
    finally:
        own.close()


def lock_features(feature_ids: Collection[int]) -> None:
    """Waits until this transaction alone evaluates these features; taken in the order of their ids.

    Not a lock on their rows: ingest takes that one where it makes a new series, and would wait for alerts.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(key) FROM unnest(%s::bigint[]) AS key",
            [[key_of_feature(feature_id) for feature_id in sorted(feature_ids)]],
        )


def key_of_feature(feature_id: int) -> int:
    """The key of the lock on a feature's evaluation."""
    return _FEATURE + feature_id
