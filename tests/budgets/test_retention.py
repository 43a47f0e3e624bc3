"""Partitions and retention: what is needed is there, what is old goes, and nothing goes before it was counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from budgets import partitions, retention, rollups
from budgets.annotations import add_annotation
from budgets.models import (
    Annotation,
    DayRollup,
    Feature,
    HourRollup,
    IngestKey,
    Measurement,
    MinuteRollup,
)
from budgets.partitions import (
    RETENTION_SETTINGS,
    drop_expired,
    ensure_ahead,
    ensure_partitions,
    existing_days,
)
from tests.budgets.brute_force import Sample, stored_rows, us
from tests.budgets.histories import post, roll_up_all
from tests.concurrency import at_once, held
from tests.factories import NOW, make_feature, make_key

pytestmark = pytest.mark.django_db
in_transactions = pytest.mark.django_db(transaction=True)

TODAY = NOW.date()
DAY = timedelta(days=1)


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=NOW - timedelta(days=30))


@pytest.fixture
def key(feature: Feature) -> IngestKey:
    return make_key(feature.team, "ingest")[0]


@pytest.fixture
def no_partitions() -> None:
    """As in a database that has just been made; what tests made is there again afterwards."""
    with connection.cursor() as cursor:
        for table in RETENTION_SETTINGS:
            for day in existing_days(table):
                cursor.execute(f"DROP TABLE {table}_{day:%Y%m%d}")
    partitions._seen.clear()


# -- Partitions


@pytest.mark.usefixtures("no_partitions")
def test_partitions_are_made_a_week_ahead():
    ensure_ahead(NOW)

    for table in RETENTION_SETTINGS:
        assert existing_days(table) == {TODAY + n * DAY for n in range(-1, 8)}


@pytest.mark.usefixtures("no_partitions")
def test_making_partitions_ahead_again_changes_nothing():
    ensure_ahead(NOW)
    before = oids()
    partitions._seen.clear()
    ensure_ahead(NOW)

    assert oids() == before


def oids() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid FROM pg_inherits WHERE inhparent = 'budgets_measurement'::regclass ORDER BY 1"
        )
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.usefixtures("no_partitions")
def test_days_that_were_not_foreseen_get_their_partitions_on_demand(feature: Feature, key: IngestKey):
    samples = [Sample("model", us(NOW - n * DAY), 1.0) for n in (0, 3, 6)]
    post(key, feature, samples)
    roll_up_all()

    wanted = {TODAY - n * DAY for n in (0, 3, 6)}
    assert existing_days("budgets_measurement") == wanted
    assert existing_days("budgets_rollup_minute") == wanted
    assert len(stored_rows(feature, MinuteRollup)) == 3


def test_partitions_have_the_indexes_and_constraints_of_their_table():
    ensure_partitions("budgets_measurement", [TODAY])
    ensure_partitions("budgets_rollup_minute", [TODAY])
    with connection.cursor() as cursor:
        for table in ("budgets_measurement", "budgets_rollup_minute"):
            counts = []
            for name in (table, f"{table}_{TODAY:%Y%m%d}"):
                cursor.execute(
                    "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass),"
                    " (SELECT array_agg(conname::text ORDER BY conname) FROM pg_constraint"
                    "  WHERE conrelid = %s::regclass AND contype = 'c')",
                    [name, name],
                )
                counts.append(cursor.fetchone())
            assert counts[0] == counts[1]


@in_transactions
def test_workers_that_need_the_same_day_at_once_make_it_once():
    day = date(2031, 1, 1)

    def make() -> None:
        ensure_partitions("budgets_measurement", [day, day + DAY])

    try:
        at_once(make, make, make)
        assert {day, day + DAY} <= existing_days("budgets_measurement")
    finally:
        drop_expired(datetime(2040, 1, 1, tzinfo=UTC))


@in_transactions
def test_a_partition_whose_making_was_rolled_back_is_made_by_the_next(feature: Feature):
    day = date(2031, 1, 3)
    try:
        with pytest.raises(ZeroDivisionError):
            _make_and_fail(day)
        assert day not in existing_days("budgets_measurement")
        ensure_partitions("budgets_measurement", [day])
        assert day in existing_days("budgets_measurement")
    finally:
        drop_expired(datetime(2040, 1, 1, tzinfo=UTC))


def _make_and_fail(day: date) -> None:
    with transaction.atomic():
        ensure_partitions("budgets_measurement", [day])
        raise ZeroDivisionError


@pytest.mark.usefixtures("no_partitions")
def test_partitions_go_when_all_of_their_day_is_beyond_the_retention(settings: Settings):
    settings.RAW_RETENTION_DAYS, settings.MINUTE_RETENTION_DAYS = 7, 14
    for table in RETENTION_SETTINGS:
        ensure_partitions(table, [TODAY - n * DAY for n in range(20)])
    dropped = drop_expired(NOW)

    # Of the day a week ago four hours are still within the retention.
    raw, minutes = ({TODAY - n * DAY for n in range(count + 1)} for count in (7, 14))
    assert existing_days("budgets_measurement") == existing_days("budgets_span") == raw
    assert existing_days("budgets_rollup_minute") == minutes
    assert len(dropped) == 12 + 12 + 5
    assert drop_expired(NOW) == []


@pytest.mark.usefixtures("no_partitions")
def test_a_day_goes_an_hour_after_its_end_left_the_retention(settings: Settings):
    """What was just accepted may still be on its way into it."""
    settings.RAW_RETENTION_DAYS = 7
    day = TODAY - 8 * DAY
    ensure_partitions("budgets_measurement", [day])
    gone_at = datetime.combine(TODAY, datetime.min.time(), tzinfo=UTC) + partitions.GRACE

    assert drop_expired(gone_at - timedelta(seconds=1)) == []
    assert drop_expired(gone_at) == [f"budgets_measurement_{day:%Y%m%d}"]


@pytest.mark.usefixtures("no_partitions")
def test_what_waits_to_be_rolled_up_is_kept_beyond_its_retention(
    feature: Feature, key: IngestKey, caplog: pytest.LogCaptureFixture
):
    """As after a fortnight in which no worker ran."""
    post(key, feature, [Sample("model", us(NOW), 1.0), Sample("model", us(NOW - 2 * DAY), 1.0)])
    much_later = NOW + timedelta(days=30)
    kept = existing_days("budgets_measurement")
    assert drop_expired(much_later) == []
    assert existing_days("budgets_measurement") == kept
    assert "not all of it is rolled up yet" in caplog.text

    roll_up_all()
    assert sum(row["total"] for row in stored_rows(feature, MinuteRollup).values()) == 2
    assert any(name.startswith("budgets_measurement") for name in drop_expired(much_later))
    assert not existing_days("budgets_measurement")


@pytest.mark.usefixtures("no_partitions")
def test_minutes_are_kept_until_their_hours_are_derived(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", us(NOW), 1.0)])
    roll_up_all()
    much_later = NOW + timedelta(days=30)
    drop_expired(much_later)
    assert existing_days("budgets_rollup_minute") == {TODAY}

    rollups.compact(now=much_later)
    drop_expired(much_later)
    assert not existing_days("budgets_rollup_minute")
    [row] = stored_rows(feature, DayRollup).values()
    assert row["total"] == 1


@in_transactions
def test_a_partition_in_use_is_left_for_the_next_sweep(caplog: pytest.LogCaptureFixture):
    day = date(2020, 1, 1)
    ensure_partitions("budgets_measurement", [day])
    with held(f"SELECT 1 FROM budgets_measurement_{day:%Y%m%d}"):
        assert drop_expired(NOW) == []
        assert "is in use" in caplog.text
        # Nobody else had to wait for it.
        assert Measurement.objects.count() == 0

    assert drop_expired(NOW) == [f"budgets_measurement_{day:%Y%m%d}"]


def test_what_was_rolled_up_outlives_its_raw_measurements_and_its_minutes(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", us(NOW - 3 * DAY), 1.0)])
    roll_up_all()
    rollups.compact(now=NOW)
    later = NOW + timedelta(days=20)
    drop_expired(later)
    retention.drop_expired_rows(now=later)
    rollups.compact(now=later)

    assert not Measurement.objects.exists()
    assert not MinuteRollup.objects.exists()
    for model in (HourRollup, DayRollup):
        [row] = stored_rows(feature, model).values()
        assert row["total"] == 1


@in_transactions
def test_a_partition_that_is_being_vacuumed_is_not_waited_for_and_the_others_are_summarised():
    days = [date(2031, 2, 1), date(2031, 2, 2)]
    ensure_partitions("budgets_measurement", days)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO budgets_measurement (ended_at, duration_ms, batch_id, series_id, status)"
            " SELECT day, 1, n, 1, 0 FROM generate_series(1, 10000) n, unnest(%s::date[]) day",
            [days],
        )
    vacuumed, free = (f"budgets_measurement_{day:%Y%m%d}" for day in days)
    try:
        with held(f"LOCK TABLE {vacuumed} IN SHARE UPDATE EXCLUSIVE MODE"):
            partitions.summarise()

        assert unsummarised(free) == 0
        assert unsummarised(vacuumed) > 0
    finally:
        drop_expired(datetime(2040, 1, 1, tzinfo=UTC))


def unsummarised(partition: str) -> int:
    """How many page ranges of its BRIN indexes had not been summarised; they are afterwards."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(brin_summarize_new_values(i.indexrelid)) FROM pg_index i WHERE i.indrelid = %s::regclass",
            [partition],
        )
        return int(cursor.fetchone()[0])


# -- Rows


def test_hours_go_after_400_days_and_days_stay_for_ever(feature: Feature, key: IngestKey, settings: Settings):
    settings.HOUR_RETENTION_DAYS = 400
    post(key, feature, [Sample("model", us(NOW - 2 * DAY), 1.0)])
    roll_up_all()
    rollups.compact(now=NOW)
    [hour] = HourRollup.objects.values()
    for age in (399, 400, 401):
        HourRollup.objects.create(**hour | {"start": NOW.replace(minute=0, second=0) - timedelta(days=age)})

    deleted = retention.drop_expired_rows(now=NOW)
    assert deleted["budgets_rollup_hour"] == 2
    assert sorted((NOW - start).days for start in HourRollup.objects.values_list("start", flat=True)) == [
        2,
        399,
    ]
    retention.drop_expired_rows(now=NOW + timedelta(days=10_000))
    assert DayRollup.objects.count() == 1


def test_annotations_go_with_the_hours(feature: Feature, settings: Settings):
    settings.HOUR_RETENTION_DAYS = 400
    for age in (399, 401):
        at = NOW - timedelta(days=age)
        note = {"kind": "note", "text": f"{age} days old", "at": at.isoformat()}
        add_annotation(team=feature.team, document=note, actor="a test", now=at)
    assert retention.drop_expired_rows(now=NOW)["budgets_annotation"] == 1
    assert Annotation.objects.get().text == "399 days old"


def test_batches_go_when_their_measurements_have_gone(feature: Feature, key: IngestKey, settings: Settings):
    settings.RAW_RETENTION_DAYS = 7
    post(key, feature, [Sample("model", us(NOW), 1.0)])
    later = NOW + timedelta(days=9, seconds=1)
    assert retention.drop_expired_rows(now=later)["budgets_batch"] == 0

    roll_up_all()
    assert retention.drop_expired_rows(now=later - timedelta(seconds=1))["budgets_batch"] == 0
    assert retention.drop_expired_rows(now=later)["budgets_batch"] == 1
