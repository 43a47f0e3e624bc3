"""Behind PgBouncer a server's connection is another's after each transaction: a session must be left as it was found."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from alerts import evaluation, locks, notifications
from budgets import partitions, retention, rollups
from tests.alerts.scenes import burn
from tests.api import Api
from tests.factories import item, make_channel, make_feature

pytestmark = pytest.mark.django_db(transaction=True)


def left_in_the_session() -> dict[str, list[Any]]:
    """What outlives a transaction and would be found by whoever gets the connection next."""
    asked = {
        "locks": "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "cursors": "SELECT name FROM pg_cursors WHERE is_holdable",
        "prepared statements": "SELECT name FROM pg_prepared_statements",
        "channels": "SELECT pg_listening_channels()",
        "settings": "SELECT name FROM pg_settings WHERE source = 'session'",
        "temporary tables": "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()",
    }
    found = {}
    with connection.cursor() as cursor:
        for name, statement in asked.items():
            cursor.execute(statement)
            found[name] = [row[0] for row in cursor.fetchall()]
    return {name: rows for name, rows in found.items() if rows}


def test_nothing_of_the_way_from_a_post_to_its_message_stays_in_the_session(api: Api) -> None:
    before = left_in_the_session()
    now = timezone.now()
    feature = make_feature(team=api.team)
    make_channel(api.team)
    # 1. Ingest, under an idempotency key too, and a rollup of each kind.
    body = {"measurements": [item(feature, started_at=now.isoformat())]}
    assert api.post(body).status_code == api.post(body, idempotency_key="a").status_code == 200
    rollups.roll_up(now=now)
    rollups.compact(now=now)
    # 2. Something burns, is evaluated by a sweep, and is claimed.
    burn(feature, now)
    assert evaluation.sweep(now=timezone.now()) is not None
    assert notifications.claim_due(now=timezone.now(), limit=5)
    # 3. What comes by the clock.
    partitions.ensure_ahead(now)
    partitions.drop_expired(now)
    retention.drop_expired_rows(now=now)
    assert left_in_the_session() == before


def test_a_sweep_holds_its_lock_on_a_connection_of_its_own() -> None:
    with locks.try_hold(locks.EVALUATION_SWEEP) as is_ours:
        assert is_ours
        assert "locks" not in left_in_the_session()
        with locks.try_hold(locks.EVALUATION_SWEEP) as is_theirs:
            assert not is_theirs
    with locks.try_hold(locks.EVALUATION_SWEEP) as is_ours_again:
        assert is_ours_again


def test_a_lock_is_given_back_where_the_block_fails() -> None:
    with pytest.raises(RuntimeError), locks.try_hold(locks.EVALUATION_SWEEP):
        raise RuntimeError
    with locks.try_hold(locks.EVALUATION_SWEEP) as is_ours:
        assert is_ours
