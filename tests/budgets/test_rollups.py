"""Roll-up: every batch counts exactly once, in every minute, hour and day it belongs to, whatever else happens."""

from __future__ import annotations

from datetime import timedelta
from itertools import repeat
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import rollups
from budgets.histogram import LatencyHistogram
from budgets.locks import PARTITIONS, lock
from budgets.models import (
    Batch,
    DayRollup,
    DirtyDay,
    DirtyHour,
    Feature,
    HourRollup,
    IngestKey,
    Measurement,
    MinuteRollup,
    Series,
)
from budgets.partitions import existing_days
from budgets.rebuild import rebuild, rejudge
from budgets.tiles import Range, read_ranges
from tests.budgets.brute_force import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Sample,
    instant,
    rows_of,
    stored_rows,
    us,
)
from tests.budgets.histories import (
    END_US,
    START_US,
    Step,
    histories,
    limit,
    lived,
    post,
    roll_up_all,
    samples_of,
)
from tests.concurrency import at_once, held, is_waiting, other_connection
from tests.factories import NOW, make_feature, make_key, redeclare

pytestmark = pytest.mark.django_db
in_transactions = pytest.mark.django_db(transaction=True)

NOW_US = us(NOW)
HOUR_AGO_US = NOW_US - HOUR_US
TWO_DAYS_AGO_US = NOW_US // DAY_US * DAY_US - 2 * DAY_US + 10 * HOUR_US


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=NOW - timedelta(days=1))


@pytest.fixture
def key(feature: Feature) -> IngestKey:
    return make_key(feature.team, "ingest")[0]


def roll_up() -> rollups.RolledUp:
    return rollups.roll_up(now=NOW)


def minute(feature: Feature) -> dict[str, Any]:
    """The columns of its only minute."""
    [row] = stored_rows(feature, MinuteRollup).values()
    return row


def total(feature: Feature, start_us: int = START_US, end_us: int = END_US) -> int:
    """How many measurements a reader sees in a range."""
    series = Series.objects.filter(feature=feature).values_list("pk", flat=True)
    [found] = read_ranges(dict.fromkeys(series, 0), [Range(instant(start_us), instant(end_us))])
    return found[0].counts.total if found else 0


# -- What is written


@settings(max_examples=40, deadline=None)
@given(history=histories)
def test_rollups_hold_what_the_samples_give_whatever_the_order(history: list[Step]):
    """Every column of every minute, hour and day, histograms included."""
    with lived(history) as feature:
        rollups.compact(now=NOW)
        samples = samples_of(history)

        assert stored_rows(feature, MinuteRollup) == rows_of(samples, MINUTE_US, limit)
        over_by_us = NOW_US - NOW_US % HOUR_US
        hours = [sample for sample in samples if sample.ended_us < over_by_us]
        assert stored_rows(feature, HourRollup) == rows_of(hours, HOUR_US, limit)
        days = [sample for sample in samples if sample.ended_us < over_by_us // DAY_US * DAY_US]
        assert stored_rows(feature, DayRollup) == rows_of(days, DAY_US, limit)
        assert (
            rebuild(start=instant(START_US), end=instant(END_US), now=NOW, only_check=True).differences == []
        )


def test_the_sum_is_exact_to_the_microsecond(feature: Feature, key: IngestKey):
    for _ in range(3):
        post(key, feature, repeat(Sample("model", NOW_US, 0.1), 1000))
        roll_up()

    # Adding 0.1 three thousand times as floats gives 300.0000000000563.
    assert minute(feature)["sum_us"] == 300_000


def test_errors_count_but_are_in_no_sum_maximum_or_histogram(feature: Feature, key: IngestKey):
    samples = [Sample("model", NOW_US, 9000.0, "error", "f" * 32), Sample("model", NOW_US, 10.0)]
    post(key, feature, samples)
    roll_up()

    row = minute(feature)
    assert (row["total"], row["errors"], row["good"], row["over"]) == (2, 1, 1, 0)
    assert (row["sum_us"], row["max_ms"], row["max_trace_id"]) == (10_000, 10.0, None)
    assert row["histogram"] == LatencyHistogram.from_values([10.0]).to_bytes()


def test_a_duration_equal_to_its_limit_is_good_and_the_next_longer_one_is_over(
    feature: Feature, key: IngestKey
):
    post(key, feature, [Sample("model", NOW_US, 1500.0), Sample("model", NOW_US, 1500.0001)])
    roll_up()

    assert (minute(feature)["good"], minute(feature)["over"]) == (1, 1)


def test_a_timeout_below_the_limit_is_over(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", NOW_US, 1.0, "timeout")])
    roll_up()

    assert (minute(feature)["judged"], minute(feature)["good"], minute(feature)["over"]) == (1, 0, 1)


def test_what_has_no_limit_is_counted_and_not_judged(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("cache", NOW_US, 1.0, status) for status in ("ok", "error", "timeout")])
    roll_up()

    row = minute(feature)
    assert (row["total"], row["errors"], row["timeouts"]) == (3, 1, 1)
    assert (row["judged"], row["good"], row["over"]) == (0, 0, 0)


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_of_several_just_as_slow_the_greatest_trace_is_named(
    feature: Feature, key: IngestKey, is_one_batch: bool
):
    # Bytes over 127 and zero bytes inside: ordered as PostgreSQL orders uuids.
    traces = ["7f" + "f" * 30, "80" + "0" * 29 + "1", "80" + "0" * 30, None, "00" * 15 + "01"]
    samples = [Sample("model", NOW_US, 700.0, trace_id=trace) for trace in traces]
    for part in [samples] if is_one_batch else [[sample] for sample in samples]:
        post(key, feature, part)
        roll_up()

    assert minute(feature)["max_trace_id"].hex == "80" + "0" * 29 + "1"


def test_a_minute_belongs_to_the_end_of_a_measurement_and_not_to_its_start(feature: Feature, key: IngestKey):
    twenty_minutes_ms = 20 * 60_000.0
    post(key, feature, [Sample("model", HOUR_AGO_US, twenty_minutes_ms)])
    roll_up()

    [(_, _, start_us)] = stored_rows(feature, MinuteRollup)
    assert start_us == HOUR_AGO_US // MINUTE_US * MINUTE_US


def test_roll_up_says_which_features_it_touched(feature: Feature, key: IngestKey):
    another = make_feature(team=feature.team)
    make_feature(team=feature.team)
    post(key, feature, [Sample("model", NOW_US, 1.0)] * 2)
    post(key, another, [Sample("model", NOW_US, 1.0)])

    touched = frozenset({feature.pk, another.pk})
    assert roll_up() == rollups.RolledUp(2, 3, touched, False, ended_to=NOW)
    assert roll_up() == rollups.RolledUp()


def test_a_batch_over_several_days_is_rolled_up_into_each(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", NOW_US - n * DAY_US, 1.0) for n in range(7)])
    roll_up()

    assert [start_us for _, _, start_us in sorted(stored_rows(feature, MinuteRollup))] == [
        (NOW_US - n * DAY_US) // MINUTE_US * MINUTE_US for n in reversed(range(7))
    ]


@settings(max_examples=200, deadline=None)
@given(offsets=st.lists(st.integers(0, 6 * DAY_US), min_size=1, max_size=5))
def test_no_microsecond_falls_out_of_the_range_that_its_batch_notes(offsets: list[int]):
    with lived([]) as feature:
        key = make_key(feature.team, "ingest")[0]
        post(key, feature, [Sample("model", NOW_US - offset, 1.0) for offset in offsets])
        roll_up()

        assert sum(row["total"] for row in stored_rows(feature, MinuteRollup).values()) == len(offsets)


def test_a_backlog_over_one_claim_is_announced_until_it_is_gone(
    feature: Feature, key: IngestKey, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollups, "CLAIM_MEASUREMENTS", 10)
    for _ in range(5):
        post(key, feature, [Sample("model", NOW_US, 1.0)] * 4)

    # Two batches a claim: a third would exceed it.
    assert [(done.batches, done.is_more) for done in (roll_up(), roll_up(), roll_up())] == [
        (2, True),
        (2, True),
        (1, False),
    ]
    assert minute(feature)["total"] == 20


def test_a_backlog_is_summarised_so_that_not_every_claim_scans_all_of_it(
    feature: Feature, key: IngestKey, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollups, "CLAIM_MEASUREMENTS", 5000)
    for _ in range(3):
        post(key, feature, [Sample("model", NOW_US, 1.0)] * 5000)
    assert roll_up().is_more
    with connection.cursor() as cursor:
        # How many ranges of pages were left to be summarised.
        cursor.execute(
            "SELECT sum(brin_summarize_new_values(i.indexrelid)) FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'"
            " WHERE i.indrelid = %s::regclass",
            [f"budgets_measurement_{NOW:%Y%m%d}"],
        )
        assert cursor.fetchone() == (0,)


def test_a_batch_larger_than_a_claim_is_rolled_up_alone(
    feature: Feature, key: IngestKey, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollups, "CLAIM_MEASUREMENTS", 3)
    post(key, feature, [Sample("model", NOW_US, 1.0)] * 4)
    post(key, feature, [Sample("model", NOW_US, 1.0)] * 4)

    assert (roll_up().measurements, roll_up().measurements) == (4, 4)


def test_a_batch_whose_raw_measurements_are_gone_holds_up_no_other(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", NOW_US, 1.0)])
    Measurement.objects.filter(series__feature=feature).delete()

    assert roll_up().batches == 1
    post(key, feature, [Sample("model", NOW_US, 1.0)])
    roll_up()
    assert minute(feature)["total"] == 1


# -- Exactly once

SERIES = "SELECT 1 FROM budgets_series FOR UPDATE"


@in_transactions
def test_a_batch_that_one_worker_holds_is_not_claimed_by_another(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", NOW_US, 1.0)] * 3)
    with held(SERIES) as start:
        first = start(roll_up)
        assert is_waiting("budgets_series")
        assert roll_up() == rollups.RolledUp()

    assert first.result().measurements == 3
    assert minute(feature)["total"] == 3


@in_transactions
def test_two_workers_share_a_backlog(feature: Feature, key: IngestKey, monkeypatch: pytest.MonkeyPatch):
    """A claim locks little more than it takes, so that the rest is free for another worker."""
    monkeypatch.setattr(rollups, "CLAIM_MEASUREMENTS", 100)
    names = ("model", "retrieval", "complete")
    for n in range(60):
        samples = [Sample(names[n % 3], NOW_US - m * MINUTE_US, float(n * m + 1)) for m in range(10)]
        post(key, feature, samples)
    with held(SERIES) as start:
        first, second = start(roll_up), start(roll_up)
        assert is_waiting("budgets_series", count=2)
    shares = [first.result(), second.result()]

    assert [(share.batches, share.is_more) for share in shares] == [(10, True), (10, True)]
    at_once(roll_up_all, roll_up_all)
    assert sum(row["total"] for row in stored_rows(feature, MinuteRollup).values()) == 600
    assert rebuild(start=instant(START_US), end=instant(END_US), now=NOW, only_check=True).differences == []


@in_transactions
def test_a_day_without_a_partition_gets_one_before_the_roll_up_holds_any_lock(
    feature: Feature, key: IngestKey
):
    """Until it commits, everybody who needs a day would wait for it."""
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    day = instant(TWO_DAYS_AGO_US).date()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS budgets_rollup_minute_{day:%Y%m%d}")
    with held(SERIES) as start:
        first = start(roll_up)
        assert is_waiting("budgets_series")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
            lock(PARTITIONS)

    assert first.result().measurements == 1
    assert day in existing_days("budgets_rollup_minute")


@in_transactions
def test_a_day_whose_partition_was_dropped_behind_our_back_gets_another(feature: Feature, key: IngestKey):
    """By another worker's retention: what this process has seen is no promise."""
    for _ in range(2):
        post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
        assert roll_up().measurements == 1
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE budgets_rollup_minute_{instant(TWO_DAYS_AGO_US):%Y%m%d}")


@in_transactions
def test_two_workers_may_make_the_same_minute_at_once(feature: Feature, key: IngestKey):
    """Neither can see the row that the other is about to make: the lock on the series adds them up."""
    post(key, feature, [Sample("model", NOW_US, 1.0)])
    with held(SERIES) as start:
        first = start(roll_up)
        assert is_waiting("budgets_series")
        post(key, feature, [Sample("model", NOW_US, 2.0)])
        second = start(roll_up)
        assert is_waiting("budgets_series", count=2)

    assert [first.result().measurements, second.result().measurements] == [1, 1]
    assert (minute(feature)["total"], minute(feature)["sum_us"]) == (2, 3000)


@in_transactions
def test_workers_at_once_over_the_same_series_count_everything_once_and_never_deadlock(
    feature: Feature, key: IngestKey
):
    components = ["model", "retrieval", "tools", "overhead"]
    for n in range(40):
        # In opposite orders, so that locks taken in the order of the samples would cross.
        names = components if n % 2 else components[::-1]
        post(key, feature, [Sample(name, NOW_US - n * MINUTE_US // 3, 1.0) for name in names])

    def work() -> int:
        batches = 0
        while done := rollups.roll_up(now=NOW).batches:
            batches += done
        return batches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "CLAIM_BATCHES", 3)
        assert sum(at_once(work, work, work)) == 40

    assert sum(row["total"] for row in stored_rows(feature, MinuteRollup).values()) == 160
    assert rebuild(start=NOW - timedelta(hours=1), end=NOW, now=NOW, only_check=True).differences == []


@in_transactions
def test_a_roll_up_that_ends_midway_leaves_its_batch_pending_and_nothing_else(
    feature: Feature, key: IngestKey
):
    post(key, feature, [Sample("model", NOW_US, 1.0)])
    with held(SERIES) as start:
        first = start(roll_up)
        assert is_waiting("budgets_series")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
    with pytest.raises(OperationalError):
        first.result()

    assert Batch.objects.get().state == Batch.State.PENDING
    assert not MinuteRollup.objects.exists()
    assert not DirtyHour.objects.exists()
    roll_up()
    assert minute(feature)["total"] == 1


# -- Hours and days


def test_what_was_just_rolled_up_is_read_at_once(feature: Feature, key: IngestKey):
    """Also from hours and days that were derived long ago."""
    for expected in (1, 2):
        post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
        roll_up()
        assert total(feature) == expected
        rollups.compact(now=NOW)
        assert total(feature) == expected


def test_late_data_changes_the_minute_the_hour_and_the_day(feature: Feature, key: IngestKey):
    samples = [Sample("model", TWO_DAYS_AGO_US, 10.0), Sample("model", TWO_DAYS_AGO_US + 5, 20.0)]
    for sample in samples:
        post(key, feature, [sample])
        roll_up()
        rollups.compact(now=NOW)

    def limit_of_model(component: str, minute_us: int) -> float:
        return 1500.0

    for model, width_us in ((MinuteRollup, MINUTE_US), (HourRollup, HOUR_US), (DayRollup, DAY_US)):
        assert stored_rows(feature, model) == rows_of(samples, width_us, limit_of_model)


def test_an_hour_is_derived_when_it_is_over_and_a_day_too(feature: Feature, key: IngestKey):
    hour_us = NOW_US // HOUR_US * HOUR_US
    post(key, feature, [Sample("model", hour_us - 1, 1.0), Sample("model", hour_us, 1.0)])
    roll_up()

    just_over = instant(hour_us)
    assert rollups.compact(now=just_over - timedelta(microseconds=1)) == rollups.Compacted(0, 0)
    assert rollups.compact(now=just_over) == rollups.Compacted(1, 0)
    midnight = instant((NOW_US // DAY_US + 1) * DAY_US)
    assert rollups.compact(now=midnight) == rollups.Compacted(1, 1)
    assert not DirtyHour.objects.exists()
    assert not DirtyDay.objects.exists()


def test_compaction_in_portions_derives_everything(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US + n * HOUR_US, 1.0) for n in range(7)])
    roll_up()

    assert rollups.compact(now=NOW, limit=2) == rollups.Compacted(7, 1)
    [row] = stored_rows(feature, DayRollup).values()
    assert row["total"] == 7


def test_a_compaction_with_nothing_to_do_does_nothing():
    assert rollups.compact(now=NOW) == rollups.Compacted(0, 0)


@in_transactions
def test_a_mark_made_while_compaction_holds_it_is_not_lost(feature: Feature, key: IngestKey):
    """Compaction has read the minutes and is about to delete the mark when more is rolled up into them."""
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    roll_up()
    rollups.compact(now=NOW)
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    roll_up()
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    with held("SELECT 1 FROM budgets_rollup_hour FOR UPDATE") as start:
        compaction = start(lambda: rollups.compact(now=NOW))
        assert is_waiting("budgets_rollup_hour")
        third = start(roll_up)
        assert is_waiting("budgets_dirtyhour")

    assert third.result().measurements == 1
    compaction.result()
    assert total(feature) == 3
    rollups.compact(now=NOW)
    [row] = stored_rows(feature, DayRollup).values()
    assert row["total"] == 3


@in_transactions
def test_a_day_is_not_derived_while_an_hour_of_it_waits_to_be(feature: Feature, key: IngestKey):
    """Also where the hour was marked after compaction looked, and before it locked the day's mark."""
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    roll_up()
    series_id = Series.objects.get().pk
    is_marked = False

    def mark_an_hour_behind_its_back(
        execute: Any, sql: str, parameters: Any, many: bool, context: Any
    ) -> Any:
        nonlocal is_marked
        result = execute(sql, parameters, many, context)
        if "FROM budgets_dirtyday" in sql and not is_marked:
            is_marked = True
            with other_connection() as other, other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO budgets_dirtyhour (series_id, start) VALUES (%s, %s)",
                    [series_id, instant(TWO_DAYS_AGO_US // HOUR_US * HOUR_US)],
                )
        return result

    with connection.execute_wrapper(mark_an_hour_behind_its_back):
        assert rollups.compact(now=NOW).days == 0
    assert is_marked
    assert DirtyDay.objects.count() == 1
    assert rollups.compact(now=NOW) == rollups.Compacted(1, 1)


@in_transactions
def test_of_two_compactions_at_once_one_works_and_neither_waits(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    roll_up()
    rollups.compact(now=NOW)
    post(key, feature, [Sample("model", TWO_DAYS_AGO_US, 1.0)])
    roll_up()
    with held("SELECT 1 FROM budgets_rollup_hour FOR UPDATE") as start:
        first = start(lambda: rollups.compact(now=NOW))
        assert is_waiting("budgets_rollup_hour")
        assert rollups.compact(now=NOW) == rollups.Compacted(0, 0)

    assert first.result() == rollups.Compacted(1, 1)


@in_transactions
def test_roll_ups_and_compactions_at_once_lose_nothing(feature: Feature, key: IngestKey):
    for n in range(60):
        post(key, feature, [Sample("model", TWO_DAYS_AGO_US + n % 3 * HOUR_US, 1.0)])

    def work() -> None:
        while rollups.roll_up(now=NOW).batches:
            pass

    def tidy_up() -> None:
        while Batch.objects.filter(state=Batch.State.PENDING).exists():
            rollups.compact(now=NOW)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollups, "CLAIM_BATCHES", 1)
        at_once(work, work, tidy_up)

    assert total(feature) == 60
    rollups.compact(now=NOW)
    [row] = stored_rows(feature, DayRollup).values()
    assert row["total"] == 60


# -- Limits


def promise(milestone: str, budget_ms: float, **allocations: float) -> dict[str, Any]:
    return {
        "milestone": milestone,
        "budget_ms": budget_ms,
        "objective": 0.99,
        "window_days": 28,
        "allocations": allocations,
    }


def test_each_minute_is_judged_by_the_version_in_force_within_it(feature: Feature, key: IngestKey):
    """The allocation of the model falls from 1500 to 500 ms in the middle of an hour."""
    changed_us = HOUR_AGO_US // HOUR_US * HOUR_US + 29 * MINUTE_US
    redeclare(feature, now=instant(changed_us), latency_budgets=[promise("first_token", 3000, model=500)])
    in_force_us = changed_us + MINUTE_US
    samples = [
        Sample("model", in_force_us - MINUTE_US, 1000.0),
        Sample("model", in_force_us - 1, 1000.0),
        Sample("model", in_force_us, 1000.0),
        Sample("model", in_force_us + MINUTE_US, 400.0),
    ]
    post(key, feature, samples)
    roll_up()
    rollups.compact(now=NOW)

    def in_force(component: str, minute_us: int) -> float:
        return 1500.0 if minute_us < in_force_us else 500.0

    assert stored_rows(feature, MinuteRollup) == rows_of(samples, MINUTE_US, in_force)
    [row] = stored_rows(feature, HourRollup).values()
    assert (row["judged"], row["good"], row["over"]) == (4, 3, 1)


def test_a_component_that_moves_to_the_other_milestone_is_judged_by_its_allocation_there(
    feature: Feature, key: IngestKey
):
    """The first version for `complete` has been in force always; what the model had until then goes before."""
    changed_us = HOUR_AGO_US // MINUTE_US * MINUTE_US
    redeclare(
        feature,
        now=instant(changed_us),
        latency_budgets=[promise("first_token", 3000, retrieval=400), promise("complete", 8000, model=200)],
    )
    in_force_us = changed_us + MINUTE_US
    samples = [
        Sample("model", in_force_us - 1, 1000.0),
        Sample("model", in_force_us, 1000.0),
        Sample("model", in_force_us + MINUTE_US, 100.0),
    ]
    post(key, feature, samples)
    roll_up()

    def in_force(component: str, minute_us: int) -> float:
        return 1500.0 if minute_us < in_force_us else 200.0

    assert stored_rows(feature, MinuteRollup) == rows_of(samples, MINUTE_US, in_force)


def test_a_component_that_is_no_longer_allocated_is_no_longer_judged(feature: Feature, key: IngestKey):
    changed_us = HOUR_AGO_US // MINUTE_US * MINUTE_US
    redeclare(feature, now=instant(changed_us), latency_budgets=[promise("first_token", 3000, retrieval=400)])
    in_force_us = changed_us + MINUTE_US
    post(key, feature, [Sample("model", in_force_us - 1, 1.0), Sample("model", in_force_us, 1.0)])
    roll_up()

    assert [row["judged"] for _, row in sorted(stored_rows(feature, MinuteRollup).items())] == [1, 0]


def test_a_retired_milestone_judges_nothing_from_then_on(feature: Feature, key: IngestKey):
    changed_us = HOUR_AGO_US // MINUTE_US * MINUTE_US
    redeclare(feature, now=instant(changed_us), latency_budgets=[])
    in_force_us = changed_us + MINUTE_US
    post(key, feature, [Sample("model", in_force_us - 1, 1.0), Sample("model", in_force_us, 1.0)])
    roll_up()

    assert [row["judged"] for _, row in sorted(stored_rows(feature, MinuteRollup).items())] == [1, 0]


def test_a_first_version_judges_what_is_stored_anew():
    feature = make_feature(latency_budgets=[])
    key = make_key(feature.team, "ingest")[0]
    samples = [Sample("model", us - n, 1000.0) for us in (TWO_DAYS_AGO_US, HOUR_AGO_US) for n in range(2)]
    post(key, feature, samples)
    roll_up()
    rollups.compact(now=NOW)
    assert all(row["judged"] == 0 for row in stored_rows(feature, MinuteRollup).values())

    redeclare(feature, now=instant(NOW_US), latency_budgets=[promise("first_token", 3000, model=400)])
    assert rejudge(now=NOW) == [feature.pk]

    for model, width_us in ((MinuteRollup, MINUTE_US), (HourRollup, HOUR_US), (DayRollup, DAY_US)):
        rows = stored_rows(feature, model)
        expected = rows_of(samples, width_us, lambda component, minute_us: 400.0)
        assert rows == {at: row for at, row in expected.items() if at in rows}
    assert len(stored_rows(feature, DayRollup)) == 1
    assert rejudge(now=NOW) == []


def test_judging_anew_leaves_other_features_and_batches_that_wait_alone(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", HOUR_AGO_US, 1.0)])
    roll_up()
    MinuteRollup.objects.update(good=0)
    late = make_feature(team=feature.team, latency_budgets=[])
    post(key, late, [Sample("model", HOUR_AGO_US, 1000.0)])
    redeclare(late, now=instant(NOW_US), latency_budgets=[promise("first_token", 3000, model=400)])
    rejudge(now=NOW)

    assert minute(feature)["good"] == 0
    assert not stored_rows(late, MinuteRollup)
    roll_up()
    assert (minute(late)["judged"], minute(late)["over"]) == (1, 1)


def test_a_later_version_judges_nothing_anew(feature: Feature, key: IngestKey):
    post(key, feature, [Sample("model", HOUR_AGO_US, 1000.0)])
    roll_up()
    redeclare(feature, now=instant(NOW_US), latency_budgets=[promise("first_token", 3000, model=400)])

    assert rejudge(now=NOW) == []
    assert minute(feature)["over"] == 0


# -- Scales


def test_rollups_of_another_scale_are_merged_and_read_at_the_lower_one(feature: Feature, key: IngestKey):
    """As a pre-aggregated histogram will be that came at scale 4."""
    fine, coarse = [100.0, 200.0, 300.0], [150.0, 0.0, 5000.0]
    start_us = TWO_DAYS_AGO_US // HOUR_US * HOUR_US
    post(key, feature, [Sample("model", start_us + MINUTE_US, ms) for ms in fine])
    roll_up()
    histogram = LatencyHistogram.from_values(coarse, scale=4)
    [minute_row] = MinuteRollup.objects.values()
    MinuteRollup.objects.create(
        **minute_row
        | {
            "start": instant(start_us),
            "sum_us": 5_150_000,
            "max_ok_ms": 5000.0,
            "max_ms": 5000.0,
            "scale": 4,
            "zero_count": histogram.zero_count,
            "histogram": histogram.to_bytes(),
        }
    )
    expected = LatencyHistogram.from_values([*fine, *coarse], scale=4)
    series = {minute_row["series_id"]: 0}
    whole = [Range(instant(START_US), instant(END_US), with_histogram=True)]
    assert read_ranges(series, whole)[0][0].histogram == expected

    rollups.compact(now=NOW)
    for model in (HourRollup, DayRollup):
        [row] = stored_rows(feature, model).values()
        assert (row["scale"], row["zero_count"], row["histogram"]) == (4, 1, expected.to_bytes())
    assert read_ranges(series, whole)[0][0].histogram == expected

    # What is rolled up later into a minute of a lower scale joins it there.
    post(key, feature, [Sample("model", start_us, 700.0)])
    roll_up()
    merged = stored_rows(feature, MinuteRollup)["model", "", start_us]
    assert (merged["scale"], merged["total"]) == (4, 4)
    assert merged["histogram"] == LatencyHistogram.from_values([*coarse, 700.0], scale=4).to_bytes()
