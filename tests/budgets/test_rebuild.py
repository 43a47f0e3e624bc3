"""Rebuild: rollups can be proved against raw measurements, and made anew from them, while work goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F

from budgets import rollups
from budgets.errors import Refusal
from budgets.models import (
    Batch,
    DayRollup,
    DirtyHour,
    Feature,
    HourRollup,
    IngestKey,
    MinuteRollup,
    Rollup,
    Series,
)
from budgets.rebuild import Rebuilt, rebuild, rejudge
from tests.budgets.brute_force import DAY_US, HOUR_US, MINUTE_US, Sample, instant, rows_of, stored_rows, us
from tests.budgets.histories import limit, post, roll_up_all
from tests.concurrency import at_once, held, is_waiting
from tests.factories import NOW, make_feature, make_key, redeclare

pytestmark = pytest.mark.django_db
in_transactions = pytest.mark.django_db(transaction=True)

NOW_US = us(NOW)
MIDNIGHT_US = NOW_US // DAY_US * DAY_US
START_US = MIDNIGHT_US - 2 * DAY_US
SAMPLES = [
    Sample("model", START_US + 10 * HOUR_US + n * 25 * MINUTE_US, 50.0 + 100 * n, trace_id=f"{n + 1:032x}")
    for n in range(30)
]


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=NOW - timedelta(days=3))


@pytest.fixture
def key(feature: Feature) -> IngestKey:
    return make_key(feature.team, "ingest")[0]


@pytest.fixture
def rolled_up(feature: Feature, key: IngestKey) -> Feature:
    """SAMPLES in minutes, hours and days."""
    post(key, feature, SAMPLES)
    roll_up_all()
    rollups.compact(now=NOW)
    return feature


def do(*, only_check: bool = False, start_us: int = START_US, end_us: int = NOW_US, **more: Any) -> Rebuilt:
    return rebuild(start=instant(start_us), end=instant(end_us), now=NOW, only_check=only_check, **more)


def check(**more: Any) -> list[str]:
    return do(only_check=True, **more).differences


TABLES = [(MinuteRollup, MINUTE_US), (HourRollup, HOUR_US), (DayRollup, DAY_US)]


def assert_rollups_are_right(feature: Feature, samples: list[Sample]) -> None:
    for model, width_us in TABLES:
        assert stored_rows(feature, model) == rows_of(samples, width_us, limit)


# -- Checking


def test_healthy_rollups_are_found_healthy(rolled_up: Feature):
    assert check() == []


def test_a_check_counts_what_it_compared(rolled_up: Feature):
    assert do(only_check=True).minutes == len(SAMPLES)


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("total", {"total": F("total") + 1}),
        ("judged", {"judged": 0, "good": 0, "over": 0}),
        ("over", {"good": 0, "over": 1}),
        ("sum_us", {"sum_us": F("sum_us") + 1}),
        ("max_ms", {"max_ms": F("max_ms") + 1}),
        ("max_trace_id", {"max_trace_id": "f" * 32}),
        ("histogram", {"histogram": b""}),
    ],
)
@pytest.mark.parametrize(
    ("model", "level"), [(MinuteRollup, "minute"), (HourRollup, "hour"), (DayRollup, "day")]
)
def test_a_changed_column_is_named_with_its_series_and_level(
    rolled_up: Feature, model: type[Rollup], level: str, column: str, changes: dict[str, Any]
):
    row = model.objects.order_by("start").first()
    model.objects.filter(start=row.start).update(**changes)

    named = [line for line in check() if line.startswith(f"series {row.series_id}, {level} ")]
    assert len(named) == 1
    assert named[0].startswith(f"series {row.series_id}, {level} {row.start.isoformat()}: ")
    assert column in named[0]


@pytest.mark.parametrize("model", [MinuteRollup, HourRollup, DayRollup])
def test_a_missing_rollup_is_named(rolled_up: Feature, model: type[Rollup]):
    row = model.objects.order_by("start").last()
    model.objects.filter(start=row.start).delete()

    assert "missing" in check()[0]


@pytest.mark.parametrize("model", [MinuteRollup, HourRollup, DayRollup])
def test_a_rollup_of_nothing_is_named(rolled_up: Feature, model: type[Rollup]):
    invent(model)

    assert "there are no raw measurements" in check()[0]


def invent(model: type[Rollup]) -> None:
    """A rollup of a series that measured nothing then."""
    [other] = Series.objects.bulk_create(
        [
            Series(
                feature_id=Series.objects.values_list("feature", flat=True).first(),
                milestone="complete",
                environment="production",
                last_seen_on=NOW.date(),
            )
        ]
    )
    [row] = model.objects.order_by("start").values()[:1]
    model.objects.create(**row | {"series_id": other.pk})


def test_what_is_dirty_is_not_compared_because_nobody_reads_it(rolled_up: Feature, key: IngestKey):
    post(key, rolled_up, [SAMPLES[0]])
    roll_up_all()

    assert DirtyHour.objects.exists()
    assert check() == []


def test_batches_that_wait_are_not_compared(rolled_up: Feature, key: IngestKey):
    post(key, rolled_up, [Sample("model", SAMPLES[0].ended_us, 1.0)])

    assert check() == []


def test_a_check_looks_at_the_range_alone(rolled_up: Feature):
    MinuteRollup.objects.filter(start__lt=instant(START_US + DAY_US)).update(sum_us=1)

    assert check(start_us=START_US + DAY_US) == []
    assert check() != []


def test_a_check_changes_nothing(rolled_up: Feature):
    MinuteRollup.objects.update(sum_us=1)
    check()

    assert set(MinuteRollup.objects.values_list("sum_us", flat=True)) == {1}
    assert not DirtyHour.objects.exists()


@in_transactions
def test_a_check_beside_roll_ups_and_compactions_finds_nothing(feature: Feature, key: IngestKey):
    for n in range(40):
        post(key, feature, [Sample("model", START_US + n % 5 * HOUR_US, 1.0)])

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollups, "CLAIM_BATCHES", 1)
            while rollups.roll_up(now=NOW).batches:
                rollups.compact(now=NOW)

    def look() -> list[str]:
        found = []
        while Batch.objects.filter(state=Batch.State.PENDING).exists():
            found += check()
        return found

    assert at_once(work, look) == [None, []]


# -- Rebuilding


@pytest.mark.parametrize("model", [MinuteRollup, HourRollup, DayRollup])
@pytest.mark.parametrize("damage", ["change", "delete", "invent"])
def test_a_rebuild_repairs_every_level(rolled_up: Feature, model: type[Rollup], damage: str):
    if damage == "change":
        model.objects.update(sum_us=1, max_trace_id=None)
    elif damage == "delete":
        model.objects.all().delete()
    else:
        invent(model)
    assert check() != []

    do()
    assert check() == []
    assert_rollups_are_right(rolled_up, SAMPLES)
    assert not DirtyHour.objects.exists()


def test_a_rebuild_from_nothing_but_raw_gives_the_same_rows(rolled_up: Feature):
    for model, _ in TABLES:
        model.objects.all().delete()
    do()

    assert_rollups_are_right(rolled_up, SAMPLES)


def test_a_rebuild_widens_its_range_to_whole_hours(rolled_up: Feature):
    MinuteRollup.objects.update(sum_us=1)
    at_us = SAMPLES[3].ended_us
    do(start_us=at_us, end_us=at_us + 1)

    right = rows_of(SAMPLES, MINUTE_US, limit)
    repaired = {at: row for at, row in stored_rows(rolled_up, MinuteRollup).items() if row == right[at]}
    assert {at[2] // HOUR_US for at in repaired} == {at_us // HOUR_US}


def test_a_rebuild_leaves_batches_that_wait_to_the_roll_up(rolled_up: Feature, key: IngestKey):
    waiting = Sample("model", SAMPLES[0].ended_us, 5.0)
    post(key, rolled_up, [waiting])
    do()
    assert_rollups_are_right(rolled_up, SAMPLES)

    roll_up_all()
    rollups.compact(now=NOW)
    assert_rollups_are_right(rolled_up, [*SAMPLES, waiting])


def test_a_rebuild_of_some_features_leaves_the_others_alone(rolled_up: Feature):
    other = make_feature(team=rolled_up.team)
    MinuteRollup.objects.update(sum_us=1)
    do(feature_ids=[other.pk])
    assert set(MinuteRollup.objects.values_list("sum_us", flat=True)) == {1}

    do(feature_ids=[rolled_up.pk])
    assert_rollups_are_right(rolled_up, SAMPLES)


@in_transactions
def test_a_rebuild_waits_for_the_roll_up_of_its_hour_and_loses_nothing(feature: Feature, key: IngestKey):
    post(key, feature, [SAMPLES[0]])
    roll_up_all()
    post(key, feature, [SAMPLES[0]])
    with held("SELECT 1 FROM budgets_series FOR UPDATE") as start:
        roll_up = start(roll_up_all)
        assert is_waiting("budgets_series")
        rebuilt = start(do)
        assert is_waiting("pg_advisory_xact_lock")

    roll_up.result()
    rebuilt.result()
    assert_rollups_are_right(feature, [SAMPLES[0]] * 2)


@in_transactions
def test_rebuilds_and_roll_ups_at_once_lose_nothing(feature: Feature, key: IngestKey):
    samples = [Sample("model", START_US + n % 5 * HOUR_US, 1.0 + n) for n in range(40)]
    for sample in samples:
        post(key, feature, [sample])

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollups, "CLAIM_BATCHES", 1)
            while rollups.roll_up(now=NOW).batches:
                pass

    def make_anew() -> None:
        while Batch.objects.filter(state=Batch.State.PENDING).exists():
            do()

    at_once(work, make_anew)
    rollups.compact(now=NOW)
    assert check() == []
    assert_rollups_are_right(feature, samples)


# -- Beyond the raw measurements


@pytest.fixture
def old(rolled_up: Feature) -> Feature:
    """With rollups of two weeks ago, whose raw measurements are gone."""
    [row] = DayRollup.objects.order_by("start").values()[:1]
    DayRollup.objects.create(**row | {"start": instant(MIDNIGHT_US - 14 * DAY_US)})
    return rolled_up


@pytest.mark.parametrize("only_check", [False, True])
def test_a_range_whose_raw_measurements_are_gone_is_refused(old: Feature, only_check: bool):
    before = list(DayRollup.objects.order_by("start").values())
    with pytest.raises(Refusal) as refused:
        do(start_us=MIDNIGHT_US - 14 * DAY_US + HOUR_US, only_check=only_check)

    assert refused.value.code == "raw_incomplete"
    assert list(DayRollup.objects.order_by("start").values()) == before


def test_what_lies_beyond_the_range_refuses_nothing(old: Feature):
    assert check(start_us=MIDNIGHT_US - 12 * DAY_US) == []
    assert check(start_us=MIDNIGHT_US - 30 * DAY_US, end_us=MIDNIGHT_US - 20 * DAY_US) == []


def test_the_oldest_day_that_is_kept_can_be_rebuilt(feature: Feature, key: IngestKey):
    sample = Sample("model", us(NOW - timedelta(days=7)), 1.0)
    post(key, feature, [sample])
    roll_up_all()
    MinuteRollup.objects.update(sum_us=1)
    do(start_us=sample.ended_us // DAY_US * DAY_US)

    assert_rollups_are_right(feature, [sample])


def test_a_day_within_the_retention_whose_partition_is_gone_is_refused(rolled_up: Feature):
    """As after the retention was made longer."""
    day = instant(SAMPLES[0].ended_us)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE budgets_measurement_{day:%Y%m%d}")

    with pytest.raises(Refusal) as refused:
        do()
    assert refused.value.code == "raw_incomplete"
    assert check(start_us=START_US + DAY_US) == []


# -- Judging anew


def test_judging_anew_goes_on_where_its_time_was_up():
    feature = make_feature(latency_budgets=[])
    key = make_key(feature.team, "ingest")[0]
    post(key, feature, SAMPLES)
    roll_up_all()
    rollups.compact(now=NOW)
    redeclare(feature)
    assert rejudge(now=NOW, within=timedelta(0)) == []
    assert_is_judged(feature, 0)

    # One hour was done before the time was up, and is not done again.
    done_us = SAMPLES[-1].ended_us // HOUR_US * HOUR_US
    do(start_us=done_us, end_us=done_us + 1)
    MinuteRollup.objects.filter(start__gte=instant(done_us)).update(sum_us=1)
    assert rejudge(now=NOW) == [feature.pk]
    assert_is_judged(feature, len(SAMPLES))
    assert check(end_us=done_us) == []
    assert set(MinuteRollup.objects.filter(start__gte=instant(done_us)).values_list("sum_us", flat=True)) == {
        1
    }


def test_a_minute_of_which_only_the_later_part_was_judged_is_judged_anew():
    feature = make_feature(latency_budgets=[])
    key = make_key(feature.team, "ingest")[0]
    post(key, feature, [SAMPLES[0]])
    roll_up_all()
    redeclare(feature)
    post(key, feature, [SAMPLES[0]])
    roll_up_all()
    assert_is_judged(feature, 1)

    rejudge(now=NOW)
    assert_is_judged(feature, 2)


@in_transactions
def test_judging_anew_waits_for_a_roll_up_that_does_not_know_the_version():
    feature = make_feature(latency_budgets=[])
    key = make_key(feature.team, "ingest")[0]
    post(key, feature, [SAMPLES[0]])
    with held("SELECT 1 FROM budgets_series FOR UPDATE") as start:
        start(roll_up_all)
        assert is_waiting("budgets_series")
        redeclare(feature)
        judged = start(lambda: rejudge(now=NOW))
        assert is_waiting("pg_advisory_xact_lock")

    assert judged.result() == [feature.pk]
    assert_is_judged(feature, 1)


def assert_is_judged(feature: Feature, count: int) -> None:
    assert sum(row["judged"] for row in stored_rows(feature, MinuteRollup).values()) == count


# -- The command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Its exit code and what it printed."""
    code = 0
    try:
        call_command(
            "rebuild_rollups", "--from", "2026-11-19T00:00:00Z", "--to", "2026-11-21T20:00:00Z", *arguments
        )
    except SystemExit as left:
        code = int(left.code or 0)
    return code, capsys.readouterr().out


@pytest.fixture
def clock(time_machine: Any) -> None:
    time_machine.move_to(NOW)


@pytest.mark.usefixtures("clock")
def test_the_command_leaves_with_1_and_names_what_differs(
    rolled_up: Feature, capsys: pytest.CaptureFixture[str]
):
    assert run(capsys, "--check") == (0, f"{len(SAMPLES)} minute rollups compared, 0 differences.\n")

    row = HourRollup.objects.order_by("start").first()
    HourRollup.objects.filter(start=row.start).update(sum_us=1)
    code, printed = run(capsys, "--check")
    assert code == 1
    assert f"series {row.series_id}, hour {row.start.isoformat()}: sum_us is 1" in printed

    assert run(capsys)[0] == 0
    assert run(capsys, "--check")[0] == 0


@pytest.mark.usefixtures("clock")
def test_the_command_says_why_a_range_is_refused(old: Feature):
    with pytest.raises(CommandError, match="Raw measurements are complete from 2026-11-14"):
        call_command("rebuild_rollups", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-21T20:00:00Z")


@pytest.mark.parametrize(
    ("start", "end"),
    [("2026-11-21T20:00:00Z", "2026-11-21T20:00:00Z"), ("yesterday", "2026-11-21T20:00:00Z")],
)
def test_the_command_refuses_what_is_no_range(start: str, end: str):
    with pytest.raises(CommandError, match=r"--to must come after --from|RFC 3339"):
        call_command("rebuild_rollups", "--from", start, "--to", end)
