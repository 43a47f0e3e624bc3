"""Tasks and the doorbell: a hint starts work at once, and no lost hint leaves work undone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from alerts.tasks import deliver_due
from budgets import doorbell, rollups, tasks
from budgets.models import Batch, DayRollup, DirtyHour, Feature, MinuteRollup, Sweep
from budgets.partitions import existing_days
from latency_dashboard.celery import app
from tests.api import Api
from tests.budgets import histories
from tests.budgets.brute_force import Sample, stored_rows, us
from tests.children import eventually
from tests.concurrency import at_once, held, is_waiting, other_connection
from tests.factories import item, make_feature, make_key, redeclare

pytestmark = pytest.mark.django_db
in_transactions = pytest.mark.django_db(transaction=True)

QUEUES = ("rollup", "evaluate", "deliver", "maintain")


@pytest.fixture(autouse=True)
def _empty_queues() -> Iterator[None]:
    """Nothing waits in the broker, and nobody has rung."""
    cache.clear()
    with app.connection_for_write() as broker:
        for queue in QUEUES:
            broker.default_channel.queue_purge(queue)
        yield
        for queue in QUEUES:
            broker.default_channel.queue_purge(queue)


@pytest.fixture
def feature() -> Feature:
    return make_feature(now=timezone.now() - timedelta(days=5))


@pytest.fixture
def broker_is_away() -> Iterator[None]:
    """Its address leads nowhere, as when the server is down."""
    away = Celery("away", broker="redis+socket:///nowhere/valkey.sock", set_as_current=False)
    away.conf.broker_transport_options = app.conf.broker_transport_options
    away.set_current()
    yield
    app.set_current()


@pytest.fixture
def redis_is_away(broker_is_away: None, settings: Settings) -> None:
    nowhere = {**settings.CACHES["default"], "LOCATION": "unix:///nowhere/valkey.sock?db=1"}
    settings.CACHES = {"default": nowhere}


def waiting(queue: str) -> list[tuple[str, list[Any]]]:
    """Takes what waits in a queue: names of tasks and their arguments."""
    found = []
    with app.connection_for_read() as broker:
        channel = broker.default_channel
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append((message.headers["task"], message.decode()[0]))
    return found


def post(feature: Feature, *names: str, ago: timedelta = timedelta(0)) -> None:
    """Stores a batch as of the real clock, by which tasks go."""
    key = feature.team.ingest_keys.first() or make_key(feature.team, "ingest", now=timezone.now())[0]
    ended_us = us(timezone.now() - ago)
    histories.post(key, feature, [Sample(name, ended_us, 1.0) for name in names], now=timezone.now())


# -- Rolling up


def test_a_roll_up_has_what_it_touched_evaluated(feature: Feature):
    post(feature, "model")
    tasks.roll_up()

    assert len(stored_rows(feature, MinuteRollup)) == 1
    assert waiting("evaluate") == [("alerts.tasks.evaluate", [[feature.pk]])]


@pytest.mark.parametrize(("days_ago", "is_evaluated"), [(2.9, True), (3.1, False)])
def test_what_ended_before_the_longest_window_is_rolled_up_but_evaluates_nothing(
    feature: Feature, days_ago: float, is_evaluated: bool
):
    post(feature, "model", ago=timedelta(days=days_ago))
    tasks.roll_up()

    assert len(stored_rows(feature, MinuteRollup)) == 1
    assert bool(waiting("evaluate")) is is_evaluated


def test_a_roll_up_of_nothing_has_nothing_evaluated_and_is_noted_as_a_sweep():
    began = timezone.now()
    tasks.roll_up()

    assert waiting("evaluate") == []
    assert Sweep.objects.get(name="roll_up").finished_at >= began


def test_a_roll_up_goes_on_until_its_backlog_is_gone(feature: Feature, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rollups, "CLAIM_MEASUREMENTS", 3)
    for _ in range(5):
        post(feature, "model", "tools")
    tasks.roll_up()

    assert not Batch.objects.filter(state=Batch.State.PENDING).exists()


def test_roll_ups_keep_a_pause_so_that_a_busy_service_has_not_one_a_batch(monkeypatch: pytest.MonkeyPatch):
    ended_at = time.monotonic()
    monkeypatch.setattr(tasks, "_rolled_up_at", ended_at)
    tasks.roll_up()

    assert time.monotonic() - ended_at >= tasks.MIN_INTERVAL_S


@in_transactions
def test_sweeps_at_once_do_the_work_once():
    feature = make_feature()
    for _ in range(6):
        post(feature, "model", "tools")
    at_once(tasks.roll_up, tasks.roll_up, tasks.roll_up)

    assert sum(row["total"] for row in stored_rows(feature, MinuteRollup).values()) == 12


# -- The other sweeps


def test_compaction_derives_what_is_over(feature: Feature):
    post(feature, "model", ago=timedelta(days=2))
    tasks.roll_up()
    tasks.compact()

    assert not DirtyHour.objects.exists()
    assert len(stored_rows(feature, DayRollup)) == 1
    assert Sweep.objects.filter(name="compact").exists()


def test_a_first_latency_budget_is_judged_by_a_sweep_and_then_evaluated():
    feature = make_feature(latency_budgets=[], now=timezone.now())
    post(feature, "model")
    tasks.roll_up()
    waiting("evaluate")
    redeclare(feature, now=timezone.now())
    tasks.rejudge()

    [row] = stored_rows(feature, MinuteRollup).values()
    assert row["judged"] == 1
    assert waiting("evaluate") == [("alerts.tasks.evaluate", [[feature.pk]])]
    tasks.rejudge()
    assert waiting("evaluate") == []


def test_maintenance_makes_partitions_ahead_and_is_noted():
    tasks.maintain()

    ahead = timezone.now().date() + timedelta(days=7)
    assert ahead in existing_days("budgets_measurement")
    assert Sweep.objects.filter(name="maintain").exists()


def test_every_sweep_is_a_task_that_runs_and_expires_before_it_comes_again():
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        assert entry["options"]["expires"] <= entry["schedule"]
        app.tasks[entry["task"]]()


@in_transactions
def test_a_task_does_not_go_on_with_a_connection_that_postgresql_has_dropped():
    """As it does when it is restarted. Deliveries that are due are looked for without a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    with other_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert deliver_due.apply().get() is None


# -- The doorbell


def test_many_posts_ask_for_one_roll_up():
    for _ in range(5):
        doorbell.ring()

    assert waiting("rollup") == [("budgets.tasks.roll_up", [])]


def test_a_post_after_the_roll_up_began_asks_for_another():
    doorbell.ring()
    doorbell.heard()
    doorbell.ring()

    assert len(waiting("rollup")) == 2


@in_transactions
def test_a_post_in_the_middle_of_a_roll_up_asks_for_another():
    """The roll-up has claimed its batches by then and does not see this one."""
    post(make_feature(), "model")
    doorbell.ring()
    waiting("rollup")
    with held("SELECT 1 FROM budgets_series FOR UPDATE") as start:
        start(tasks.roll_up)
        assert is_waiting("budgets_series")
        doorbell.ring()
        assert len(waiting("rollup")) == 1


def test_a_hint_that_was_lost_is_repeated_by_a_later_post(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doorbell, "_RUNG_FOR_S", 0.05)
    doorbell.ring()
    waiting("rollup")  # and nobody hears it
    deadline = time.monotonic() + 5
    while not (again := waiting("rollup")) and time.monotonic() < deadline:
        doorbell.ring()

    assert len(again) == 1


def test_a_post_rings(api: Api):
    feature = make_feature(team=api.team)
    now = timezone.now()
    assert api.post({"measurements": [item(feature, started_at=now.isoformat())]}).status_code == 200

    assert eventually(lambda: waiting("rollup") == [("budgets.tasks.roll_up", [])])


def test_those_who_do_not_wait_are_rung_for_once_and_again_when_it_was_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doorbell, "_APART_S", 0.05)
    heard: list[Any] = []
    for wanted in (1, 2):
        for _ in range(100):
            doorbell.ring_soon()
        assert eventually(lambda: bool(heard.extend(waiting("rollup")) or len(heard) == wanted))  # noqa: B023
        doorbell.heard()


# -- Without Redis


@pytest.mark.usefixtures("redis_is_away")
def test_a_sweep_works_without_redis(feature: Feature):
    post(feature, "model")
    began = time.monotonic()
    tasks.roll_up()

    assert len(stored_rows(feature, MinuteRollup)) == 1
    assert time.monotonic() - began < 3


@pytest.mark.usefixtures("redis_is_away")
def test_a_post_succeeds_without_redis_and_without_delay(api: Api, caplog: pytest.LogCaptureFixture):
    feature = make_feature(team=api.team)
    for _ in range(5):
        began = time.monotonic()
        response = api.post({"measurements": [item(feature, started_at=timezone.now().isoformat())]})
        assert response.status_code == 200
        assert time.monotonic() - began < 1

    assert eventually(lambda: caplog.text.count("Redis cannot be reached") == 1)
    assert Batch.objects.filter(state=Batch.State.PENDING).count() == 5


@pytest.mark.usefixtures("broker_is_away")
def test_a_broker_that_goes_away_after_the_cache_answered_delays_a_post_little():
    began = time.monotonic()
    doorbell.ring()

    assert time.monotonic() - began < 1


@pytest.mark.usefixtures("redis_is_away")
def test_after_a_failure_redis_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    doorbell.ring()
    doorbell.ring()
    assert len(caplog.records) == 1

    monkeypatch.setattr(doorbell, "_silent_until", 0.0)
    doorbell.ring()
    assert len(caplog.records) == 2
