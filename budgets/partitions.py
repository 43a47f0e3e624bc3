"""Daily partitions: made ahead of time and on demand, dropped after the retention."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import OperationalError, connection, transaction

from .locks import PARTITIONS, lock

log = logging.getLogger(__name__)

DAYS_AHEAD = 7
# What was just within the retention when it came may still be on its way into a partition that no longer is.
GRACE = timedelta(hours=1)
# Table -> the setting that says for how many days it is kept.
RETENTION_SETTINGS = {
    "budgets_measurement": "RAW_RETENTION_DAYS",
    "budgets_span": "RAW_RETENTION_DAYS",
    "budgets_rollup_minute": "MINUTE_RETENTION_DAYS",
}
# What still has to be read from a day before it may go: batches that wait to be rolled up, or to be taken out of
# the rollups, and hours to be derived.
_AWAITED = {
    "budgets_measurement": "SELECT 1 FROM budgets_batch"
    " WHERE state IN ('pending', 'discarding') AND ended_from < %(end)s AND ended_to >= %(start)s",
    "budgets_rollup_minute": "SELECT 1 FROM budgets_dirtyhour WHERE start >= %(start)s AND start < %(end)s",
}
_NAME = re.compile(r"^(?P<table>.+)_(?P<day>\d{8})$")

# Partitions that this process has seen, by database. A dropped one does no harm here:
# what would go into it is older than the retention and was rejected before.
_seen: set[tuple[str, str, date]] = set()


def ensure_partitions(table: str, days: Iterable[date]) -> None:
    """Makes the partitions of these UTC days where they are missing."""
    database = str(connection.settings_dict["NAME"])
    missing = {day for day in days if (database, table, day) not in _seen}
    if missing:
        make_partitions(table, missing)


def make_partitions(table: str, days: Iterable[date]) -> None:
    """Makes the partitions of these UTC days where the database has none, whatever this process has seen."""
    database = str(connection.settings_dict["NAME"])
    missing = sorted(set(days))
    with transaction.atomic(), connection.cursor() as cursor:
        lock(PARTITIONS)
        existing = existing_days(table)
        for day in missing:
            if day in existing:
                continue
            name = f"{table}_{day:%Y%m%d}"
            # Made apart and then attached: unlike CREATE … PARTITION OF, attaching does not lock out
            # those who read and write the other days. Names hold digits and our own words only.
            cursor.execute(f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS)')
            if table == "budgets_rollup_minute":
                cursor.execute(f'ALTER TABLE "{name}" SET (fillfactor = 70)')
            cursor.execute(
                f'ALTER TABLE "{table}" ATTACH PARTITION "{name}" FOR VALUES FROM (%s) TO (%s)',
                [_midnight(day), _midnight(day + timedelta(days=1))],
            )
        # Only after the commit: what was rolled back must be tried again.
        transaction.on_commit(lambda: _seen.update((database, table, day) for day in missing))


def ensure_ahead(now: datetime) -> None:
    """Makes today's and the next days' partitions of every partitioned table."""
    days = [now.astimezone(UTC).date() + timedelta(days=n) for n in range(-1, DAYS_AHEAD + 1)]
    for table in RETENTION_SETTINGS:
        ensure_partitions(table, days)


def drop_expired(now: datetime) -> list[str]:
    """Drops the partitions that have lain wholly beyond the retention for GRACE, and says which.

    One is left for a later sweep where something in it has not been rolled up or derived yet, or where it is in
    use just now: waiting for the lock that it needs would hold up every reader and writer of the table.
    """
    dropped = []
    for table, setting in RETENTION_SETTINGS.items():
        keep_from = oldest_kept_day(now - GRACE, getattr(settings, setting))
        for day in sorted(existing_days(table)):
            if day >= keep_from:
                break
            name = f"{table}_{day:%Y%m%d}"
            if _is_awaited(table, day):
                log.error("Partition %s is kept beyond its retention: not all of it is rolled up yet.", name)
                continue
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '200ms'")
                    cursor.execute(f'DROP TABLE IF EXISTS "{name}"')
            except OperationalError as error:
                log.warning("Partition %s is in use and is dropped by a later sweep: %s", name, error)
                continue
            _seen.discard((str(connection.settings_dict["NAME"]), table, day))
            dropped.append(name)
    return dropped


def _is_awaited(table: str, day: date) -> bool:
    if table not in _AWAITED:
        return False
    with connection.cursor() as cursor:
        bounds = {"start": _midnight(day), "end": _midnight(day + timedelta(days=1))}
        cursor.execute(f"SELECT EXISTS ({_AWAITED[table]})", bounds)
        return bool(cursor.fetchone()[0])


def oldest_kept_day(now: datetime, retention_days: int) -> date:
    """The UTC day that contains the oldest instant still within a retention."""
    return (now.astimezone(UTC) - timedelta(days=retention_days)).date()


def summarise(tables: Iterable[str] = ("budgets_measurement", "budgets_span")) -> None:
    """Summarises the page ranges that filled up since the last time.

    Autovacuum does so too, once a minute at best; until then a roll-up has to scan them. A partition that is
    being vacuumed is left alone: an autovacuum that somebody waits for for a second gives up.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT i.indexrelid::bigint FROM pg_inherits h
            JOIN pg_index i ON i.indrelid = h.inhrelid
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'
            WHERE h.inhparent = ANY(%s::regclass[])
            """,
            [list(tables)],
        )
        indexes = [row[0] for row in cursor.fetchall()]
    for index in indexes:
        with suppress(OperationalError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '50ms'")
            cursor.execute("SELECT brin_summarize_new_values(%s::oid::regclass)", [index])


def existing_days(table: str) -> set[date]:
    """The UTC days that have a partition."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid"
            " WHERE h.inhparent = %s::regclass",
            [table],
        )
        names = [row[0] for row in cursor.fetchall()]
    return {
        datetime.strptime(match["day"], "%Y%m%d").replace(tzinfo=UTC).date()
        for match in map(_NAME.match, names)
        if match
    }


def _midnight(day: date) -> str:
    return f"{day.isoformat()} 00:00:00+00"
