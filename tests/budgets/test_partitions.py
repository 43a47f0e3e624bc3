"""Daily partitions: made when needed, dropped after their retention, never in anybody's way."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from budgets import partitions
from budgets.models import Batch, HourRollup, Measurement
from budgets.partitions import (
    GRACE,
    RETENTION_SETTINGS,
    drop_expired,
    ensure_ahead,
    ensure_partitions,
    existing_days,
    oldest_kept_day,
)
from budgets.retention import drop_expired_rows
from tests.concurrency import at_once, held, is_waiting, other_connection
from tests.factories import NOW, make_feature, make_team, make_traffic

pytestmark = pytest.mark.django_db

TABLES = list(RETENTION_SETTINGS)
TODAY = NOW.date()


def days(*offsets: int) -> set[date]:
    return {TODAY + timedelta(days=offset) for offset in offsets}


@pytest.fixture(autouse=True)
def _start_without_partitions(request: pytest.FixtureRequest) -> None:
    """Others may have made some in this database and in this process."""
    request.getfixturevalue("transactional_db" if "transactional_db" in request.fixturenames else "db")
    with connection.cursor() as cursor:
        for table in TABLES:
            for day in existing_days(table):
                cursor.execute(f"DROP TABLE {table}_{day:%Y%m%d}")
    partitions._seen.clear()


def query(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


@pytest.mark.parametrize("table", TABLES)
def test_partitions_are_made_where_they_are_missing(table: str) -> None:
    ensure_partitions(table, days(0))
    ensure_partitions(table, days(-1, 0, 1))
    assert existing_days(table) == days(-1, 0, 1)


def test_a_partition_holds_its_utc_day_and_nothing_else() -> None:
    ensure_partitions("budgets_measurement", days(0))
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    insert = "INSERT INTO budgets_measurement (ended_at, duration_ms, batch_id, series_id, status) VALUES (%s, 1, 1, 1, 0)"
    last = midnight + timedelta(days=1) - timedelta(microseconds=1)
    with connection.cursor() as cursor:
        cursor.execute(insert, [midnight])
        cursor.execute(insert, [last])
        for outside in (midnight - timedelta(microseconds=1), midnight + timedelta(days=1)):
            with pytest.raises(IntegrityError, match="no partition"), transaction.atomic():
                cursor.execute(insert, [outside])
    assert query("SELECT count(*) FROM budgets_measurement_20261121") == [(2,)]


@pytest.mark.parametrize("table", TABLES)
def test_a_partition_has_the_constraints_and_indexes_of_its_table(table: str) -> None:
    ensure_partitions(table, days(0))

    def constraints(name: str) -> list[Any]:
        return query(
            "SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND contype <> 'n' ORDER BY 1, 2",
            name,
        )

    def indexes(name: str) -> list[Any]:
        return query(
            "SELECT regexp_replace(indexdef, '^.* USING', '') FROM pg_indexes WHERE tablename = %s ORDER BY 1",
            name,
        )

    partition = f"{table}_{TODAY:%Y%m%d}"
    assert constraints(partition) == constraints(table) != []
    assert indexes(partition) == indexes(table) != []


def test_a_minute_has_room_on_its_page_for_being_updated() -> None:
    ensure_partitions("budgets_rollup_minute", days(0))
    sql = "SELECT reloptions FROM pg_class WHERE relname = 'budgets_rollup_minute_20261121'"
    assert query(sql) == [(["fillfactor=70"],)]


def test_partitions_are_made_a_week_ahead() -> None:
    ensure_ahead(NOW)
    for table in TABLES:
        assert existing_days(table) == days(*range(-1, 8))


@pytest.mark.django_db(transaction=True)
def test_a_partition_that_was_rolled_back_is_made_again() -> None:
    with transaction.atomic():
        ensure_partitions("budgets_span", days(0))
        transaction.set_rollback(True)
    assert existing_days("budgets_span") == set()
    ensure_partitions("budgets_span", days(0))
    assert existing_days("budgets_span") == days(0)


@pytest.mark.django_db(transaction=True)
def test_a_partition_that_is_known_costs_no_query(django_assert_num_queries: Any) -> None:
    ensure_partitions("budgets_span", days(0, 1))
    with django_assert_num_queries(0):
        ensure_partitions("budgets_span", days(0, 1))


@pytest.mark.django_db(transaction=True)
def test_many_that_need_a_partition_at_once_make_it_once() -> None:
    def ensure() -> None:
        partitions._seen.clear()
        ensure_partitions("budgets_measurement", days(0, 1, 2))

    at_once(*[ensure] * 6)
    assert existing_days("budgets_measurement") == days(0, 1, 2)


@pytest.mark.django_db(transaction=True)
def test_making_a_partition_waits_for_nobody_who_reads_or_writes_another_day() -> None:
    ensure_partitions("budgets_measurement", days(0))
    insert = "INSERT INTO budgets_measurement (ended_at, duration_ms, batch_id, series_id, status) VALUES (%s, 1, 1, 1, 0)"
    with other_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(insert, [NOW])
            cursor.execute("SELECT count(*) FROM budgets_measurement")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        try:
            ensure_partitions("budgets_measurement", days(1))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
        other.commit()
    assert existing_days("budgets_measurement") == days(0, 1)
    assert query("SELECT count(*) FROM budgets_measurement") == [(1,)]


# -- retention --------------------------------------------------------------------------------------


def test_each_table_is_kept_for_its_own_retention(settings: Settings) -> None:
    settings.RAW_RETENTION_DAYS, settings.MINUTE_RETENTION_DAYS = 7, 14
    for table in TABLES:
        ensure_partitions(table, days(*range(-20, 2)))
    dropped = drop_expired(NOW)
    assert existing_days("budgets_measurement") == days(*range(-7, 2))
    assert existing_days("budgets_span") == days(*range(-7, 2))
    assert existing_days("budgets_rollup_minute") == days(*range(-14, 2))
    assert "budgets_measurement_20261113" in dropped
    assert len(dropped) == 13 + 13 + 6
    assert drop_expired(NOW) == []


@pytest.mark.parametrize(
    ("at", "is_kept"),
    [
        (datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC), True),
        (datetime(2026, 11, 22, 0, 0, 0, tzinfo=UTC), True),
        (datetime(2026, 11, 22, tzinfo=UTC) + GRACE - timedelta(microseconds=1), True),
        (datetime(2026, 11, 22, tzinfo=UTC) + GRACE, False),
    ],
)
def test_a_day_is_dropped_an_hour_after_all_of_it_is_beyond_the_retention(
    settings: Settings, at: datetime, is_kept: bool
) -> None:
    settings.RAW_RETENTION_DAYS = 7
    ensure_partitions("budgets_measurement", days(-7))
    drop_expired(at)
    assert existing_days("budgets_measurement") == (days(-7) if is_kept else set())


@pytest.mark.parametrize("hour", [0, 12, 23])
def test_what_is_accepted_at_the_edge_of_the_retention_has_a_day_that_is_kept(hour: int) -> None:
    at = datetime(2026, 11, 21, hour, 30, tzinfo=UTC)
    assert oldest_kept_day(at, 7) <= (at - timedelta(days=7)).date()


@pytest.mark.django_db(transaction=True)
def test_a_dropped_day_can_be_made_again() -> None:
    ensure_partitions("budgets_measurement", days(-30))
    drop_expired(NOW)
    ensure_partitions("budgets_measurement", days(-30))
    assert existing_days("budgets_measurement") == days(-30)


@pytest.mark.django_db(transaction=True)
def test_a_day_that_is_being_read_is_left_for_the_next_sweep(caplog: pytest.LogCaptureFixture) -> None:
    ensure_partitions("budgets_measurement", days(-30, -29))
    with held("SELECT count(*) FROM budgets_measurement_20261022") as start:
        sweep = start(lambda: drop_expired(NOW))
        assert is_waiting("DROP TABLE")
        dropped = sweep.result()
        # Nobody who writes was held up for longer than that.
        assert "budgets_measurement_20261022" not in dropped
    assert "is dropped by a later sweep" in caplog.text
    assert "budgets_measurement_20261022" in drop_expired(NOW)
    assert existing_days("budgets_measurement") == set()


def test_hours_and_batches_go_by_the_row(settings: Settings) -> None:
    settings.HOUR_RETENTION_DAYS, settings.RAW_RETENTION_DAYS = 400, 7
    feature = make_feature(team=make_team())
    make_traffic(feature, at=NOW, count=3, over=0, component="model")
    [batch] = Batch.objects.all()

    def hour(ago: timedelta) -> None:
        HourRollup.objects.create(
            series_id=1,
            start=NOW.replace(minute=0, second=0) - ago,
            **dict.fromkeys(("errors", "timeouts", "judged", "good", "over", "sum_us", "zero_count"), 0),
            total=1,
            scale=6,
            histogram=b"",
        )

    for age in (399, 401):
        hour(timedelta(days=age))
    assert drop_expired_rows(now=NOW)["budgets_rollup_hour"] == 1
    assert HourRollup.objects.count() == 1
    assert drop_expired_rows(now=NOW + timedelta(days=8))["budgets_batch"] == 0
    Batch.objects.filter(pk=batch.pk).update(state="pending", rolled_up_at=None)
    assert drop_expired_rows(now=NOW + timedelta(days=30))["budgets_batch"] == 0
    Batch.objects.filter(pk=batch.pk).update(state="rolled_up", rolled_up_at=NOW)
    assert drop_expired_rows(now=NOW + timedelta(days=10))["budgets_batch"] == 1
    assert Measurement.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_what_filled_up_is_summarised_for_the_readers_of_batches() -> None:
    ensure_partitions("budgets_measurement", days(0))
    insert = """
        INSERT INTO budgets_measurement (ended_at, duration_ms, batch_id, series_id, status)
        SELECT %s, 1, n / 1000, 1, 0 FROM generate_series(1, 50000) AS n
    """
    with connection.cursor() as cursor:
        cursor.execute(insert, [NOW])
    partitions.summarise()
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(*) FROM budgets_measurement WHERE batch_id = 7"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # as a roll-up does
        [(plan,)] = query(explain)
    [scan] = [one for one in _nodes(plan[0]["Plan"]) if one["Node Type"] == "Bitmap Heap Scan"]
    assert scan["Actual Rows"] == 1000
    assert scan["Rows Removed by Index Recheck"] < 20_000


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]
