"""A batch that cannot be rolled up is set aside, holds up no others, and counts once when it is put back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import Permission
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import rollups, tasks
from budgets.failed_batches import comes_of_data, put_back, set_aside
from budgets.models import AuditEntry, Batch, Feature, IngestKey, MinuteRollup, User
from budgets.partitions import drop_expired, existing_days
from budgets.rebuild import rebuild
from budgets.retention import drop_expired_rows
from tests.budgets.brute_force import MINUTE_US, Sample, instant, stored_rows, us
from tests.budgets.histories import lived, post, roll_up_all
from tests.concurrency import held, is_waiting, other_connection
from tests.factories import NOW, make_feature, make_key
from tests.people import make_person

pytestmark = pytest.mark.django_db
in_transactions = pytest.mark.django_db(transaction=True)

NOW_US = us(NOW)
FROM_US, TO_US = NOW_US - 60 * MINUTE_US, NOW_US + 60 * MINUTE_US
GOOD = [Sample("model", NOW_US, 1.0), Sample("retrieval", NOW_US, 2.0)]
BAD = [Sample("tools", NOW_US, 3.0)]
"""Bad by what `spoil` did to the minute that it belongs to."""


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=NOW - timedelta(days=1))


@pytest.fixture
def key(feature: Feature) -> IngestKey:
    return make_key(feature.team, "ingest")[0]


def spoil(key: IngestKey, feature: Feature, **columns: Any) -> None:
    """Makes a minute of the tools to which nothing can be added."""
    post(key, feature, BAD)
    roll_up_all()
    MinuteRollup.objects.filter(series__component__name="tools", series__feature=feature).update(**columns)


FULL = {"total": 2**31 - 1}
SPOILT = [(FULL, "integer out of range"), ({"histogram": b"torn"}, "ValueError")]


def counted(feature: Feature) -> dict[str, int]:
    return {name: row["total"] for (name, _, _), row in stored_rows(feature, MinuteRollup).items()}


def differences() -> list[str]:
    return rebuild(start=instant(FROM_US), end=instant(TO_US), now=NOW, only_check=True).differences


# -- Set aside


@pytest.mark.parametrize(("columns", "failure"), SPOILT, ids=["in the database", "in this process"])
def test_a_bad_batch_is_set_aside_and_all_others_of_its_claim_are_rolled_up(
    feature: Feature, key: IngestKey, columns: dict[str, Any], failure: str, caplog: pytest.LogCaptureFixture
):
    spoil(key, feature, **columns)
    for samples in (GOOD, GOOD, BAD, GOOD, GOOD):
        post(key, feature, samples)
    done = rollups.roll_up(now=NOW)

    assert (done.batches, done.measurements, done.failed, done.feature_ids) == (4, 8, 1, {feature.pk})
    assert counted(feature)["model"] == counted(feature)["retrieval"] == 4
    [bad] = Batch.objects.filter(state=Batch.State.FAILED)
    assert bad.failed_at == NOW
    assert failure in str(bad.failure)
    assert not Batch.objects.filter(state=Batch.State.PENDING).exists()
    assert f"Batch {bad.pk} cannot be rolled up and is set aside" in caplog.text


@settings(max_examples=25, deadline=None)
@given(are_bad=st.lists(st.booleans(), min_size=1, max_size=12))
def test_exactly_the_bad_ones_are_set_aside_wherever_they_stand(are_bad: list[bool]):
    with lived([]) as feature:
        key = make_key(feature.team, "ingest")[0]
        spoil(key, feature, **FULL)
        for is_bad in are_bad:
            post(key, feature, [*GOOD, *BAD] if is_bad else GOOD)
        batches = list(Batch.objects.filter(state=Batch.State.PENDING).order_by("pk"))
        roll_up_all()

        states = [Batch.objects.get(pk=batch.pk).state for batch in batches]
        assert states == ["failed" if is_bad else "rolled_up" for is_bad in are_bad]
        assert counted(feature).get("model", 0) == are_bad.count(False)


@in_transactions
def test_a_bad_batch_does_not_stop_the_sweep(feature: Feature, key: IngestKey):
    spoil(key, feature, **FULL)
    for samples in (BAD, GOOD):
        post(key, feature, samples)
    tasks.roll_up()

    assert counted(feature)["model"] == 1


def test_a_batch_that_another_worker_has_rolled_up_meanwhile_is_not_set_aside(
    feature: Feature, key: IngestKey
):
    post(key, feature, GOOD)
    [batch] = Batch.objects.all()
    roll_up_all()

    assert not set_aside(batch.pk, ValueError("too late"), now=NOW)
    assert Batch.objects.get().state == Batch.State.ROLLED_UP


# -- Not for what is no fault of theirs


@in_transactions
@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_a_lock_that_is_not_got_sets_nothing_aside(feature: Feature, key: IngestKey, limit: str):
    post(key, feature, GOOD)
    with connection.cursor() as cursor:
        cursor.execute(f"SET {limit} = '100ms'")
    with held("SELECT 1 FROM budgets_series FOR UPDATE"), pytest.raises(OperationalError):
        rollups.roll_up(now=NOW)
    connection.close()

    roll_up_all()
    assert Batch.objects.get().state == Batch.State.ROLLED_UP


@in_transactions
def test_a_connection_that_is_lost_sets_nothing_aside(feature: Feature, key: IngestKey):
    post(key, feature, GOOD)
    with held("SELECT 1 FROM budgets_series FOR UPDATE") as start:
        roll_up = start(lambda: rollups.roll_up(now=NOW))
        assert is_waiting("budgets_series")
        with other_connection() as other, other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        with pytest.raises(OperationalError):
            roll_up.result()

    assert Batch.objects.get().state == Batch.State.PENDING


@pytest.fixture
def soft_time_limit() -> Iterator[Callable[[], None]]:
    """Starts what a task's soft time limit is: a signal that raises it in the middle of the work."""

    def exceeded(*_: object) -> None:
        raise SoftTimeLimitExceeded

    before = signal.signal(signal.SIGALRM, exceeded)

    def start() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.5)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@in_transactions
def test_the_time_limit_of_a_task_sets_nothing_aside(
    feature: Feature, key: IngestKey, soft_time_limit: Callable[[], None]
):
    post(key, feature, GOOD)
    with held("SELECT 1 FROM budgets_series FOR UPDATE"):
        soft_time_limit()
        with pytest.raises(SoftTimeLimitExceeded):
            rollups.roll_up(now=NOW)

    assert Batch.objects.get().state == Batch.State.PENDING


@pytest.mark.parametrize(
    ("sqlstate", "is_of_data"),
    [
        ("22003", True),  # numeric_value_out_of_range
        ("22P02", True),  # invalid_text_representation
        ("23502", True),  # not_null_violation
        ("54000", True),  # program_limit_exceeded
        ("23514", False),  # check_violation without a constraint: no partition for the row
        ("08006", False),  # connection_failure
        ("25006", False),  # read_only_sql_transaction
        ("40001", False),  # serialization_failure
        ("40P01", False),  # deadlock_detected
        ("42P01", False),  # undefined_table, while a migration runs
        ("53100", False),  # disk_full
        ("53300", False),  # too_many_connections
        ("55P03", False),  # lock_not_available
        ("57014", False),  # query_canceled
        ("57P01", False),  # admin_shutdown
        ("58030", False),  # io_error
        ("XX000", False),  # internal_error
    ],
)
def test_what_postgresql_says_is_blamed_on_a_batch_only_where_it_is_about_data(
    sqlstate: str, is_of_data: bool
):
    assert comes_of_data(psycopg.errors.lookup(sqlstate)()) is is_of_data


@pytest.mark.parametrize("error", [MemoryError(), OSError(), SoftTimeLimitExceeded(), AttributeError()])
def test_what_this_process_lacks_is_not_blamed_on_a_batch(error: Exception):
    assert not comes_of_data(error)


# -- Exactly once


@in_transactions
def test_a_batch_that_was_set_aside_counts_in_no_rebuild_and_once_when_it_is_put_back(
    feature: Feature, key: IngestKey
):
    spoil(key, feature, **FULL)
    post(key, feature, GOOD)
    post(key, feature, [*GOOD, *BAD])
    roll_up_all()
    # 1. A rebuild mends the minute and leaves the batch out.
    rebuild(start=instant(FROM_US), end=instant(TO_US), now=NOW)
    assert counted(feature) == {"model": 1, "retrieval": 1, "tools": 1}
    assert differences() == []

    # 2. Put back it is counted, once.
    [bad] = Batch.objects.filter(state=Batch.State.FAILED)
    assert put_back([bad.pk], actor="ada@example.com", now=NOW) == 1
    assert put_back([bad.pk], actor="ada@example.com", now=NOW) == 0
    assert differences() == []
    roll_up_all()
    assert counted(feature) == {"model": 2, "retrieval": 2, "tools": 2}
    assert differences() == []
    rebuild(start=instant(FROM_US), end=instant(TO_US), now=NOW)
    assert counted(feature) == {"model": 2, "retrieval": 2, "tools": 2}


def test_putting_back_leaves_batches_in_other_states_alone(feature: Feature, key: IngestKey):
    post(key, feature, GOOD)
    roll_up_all()
    post(key, feature, GOOD)

    assert put_back(Batch.objects.values_list("pk", flat=True), actor="ada@example.com", now=NOW) == 0
    assert set(Batch.objects.values_list("state", flat=True)) == {"rolled_up", "pending"}


@in_transactions
def test_a_batch_whose_raw_measurements_are_gone_is_not_put_back(feature: Feature, key: IngestKey):
    spoil(key, feature, **FULL)
    post(key, feature, BAD)
    roll_up_all()
    [bad] = Batch.objects.filter(state=Batch.State.FAILED)
    drop_expired(NOW + timedelta(days=30))

    assert put_back([bad.pk], actor="ada@example.com", now=NOW) == 0
    assert Batch.objects.get(pk=bad.pk).state == Batch.State.FAILED


@in_transactions
def test_what_was_set_aside_goes_with_its_raw_measurements_and_that_is_said(
    feature: Feature, key: IngestKey, caplog: pytest.LogCaptureFixture
):
    """Kept for ever it would keep its whole day, and days fill a disk."""
    spoil(key, feature, **FULL)
    post(key, feature, BAD)
    roll_up_all()
    much_later = NOW + timedelta(days=30)
    drop_expired(much_later)
    drop_expired_rows(now=much_later)

    assert NOW.date() not in existing_days("budgets_measurement")
    assert not Batch.objects.exists()
    assert "1 batches that could not be rolled up are beyond their retention" in caplog.text


# -- Seen and put back by people


def act(person: User, batches: list[int]) -> Any:
    client = Client()
    client.force_login(person)
    data = {"action": "put_back", "_selected_action": batches}
    return client.post(reverse("admin:budgets_batch_changelist"), data, follow=True)


@pytest.fixture
def bad(feature: Feature, key: IngestKey) -> Batch:
    spoil(key, feature, **FULL)
    post(key, feature, BAD)
    roll_up_all()
    return Batch.objects.get(state=Batch.State.FAILED)


@pytest.mark.usefixtures("plain_static_files")
def test_an_administrator_sees_why_and_has_it_rolled_up_again(bad: Batch):
    admin = make_person("ada@example.com")
    User.objects.filter(pk=admin.pk).update(is_staff=True, is_superuser=True)
    admin.refresh_from_db()
    client = Client()
    client.force_login(admin)
    page = client.get(reverse("admin:budgets_batch_change", args=[bad.pk])).content.decode()
    assert "integer out of range" in page

    assert "1 of 1 batches wait to be rolled up again." in act(admin, [bad.pk]).content.decode()
    bad.refresh_from_db()
    assert (bad.state, bad.failed_at, bad.failure) == ("pending", None, None)
    entry = AuditEntry.objects.get(action="batch.put_back")
    assert (entry.actor, entry.subject, entry.team) == ("ada@example.com", f"batch {bad.pk}", bad.team)
    assert "The others were not set aside, or" in act(admin, [bad.pk]).content.decode()


@pytest.mark.usefixtures("plain_static_files")
def test_who_may_only_look_at_batches_may_not_have_them_rolled_up_again(bad: Batch):
    looker = make_person("eve@example.com")
    User.objects.filter(pk=looker.pk).update(is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_batch"))
    act(User.objects.get(pk=looker.pk), [bad.pk])

    bad.refresh_from_db()
    assert bad.state == Batch.State.FAILED
