"""What must not be lost when things are killed, stopped and started: real processes, real servers, real kills."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from latency_dashboard.celery import LONGEST_WAIT_S
from tests.children import eventually
from tests.processes.installation import Installation, installed

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def everything() -> Iterator[Installation]:
    with installed() as installation:
        yield installation


@pytest.fixture
def installation(everything: Installation) -> Installation:
    """Up, also after a test that failed, and with all its work done."""
    if everything.servers.postgres is None:
        everything.servers.start_postgres()
    if everything.servers.valkey is None:
        everything.servers.start_valkey()
    if "worker" not in everything.processes:
        everything.start_worker()
    everything.start_again_what_ended()
    everything.post()
    assert everything.is_caught_up(), everything.log_of("worker")
    return everything


# Statements of roll-ups that PostgreSQL works on.
ROLL_UPS = """SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active'
AND query LIKE '%FROM budgets_series%FOR NO KEY UPDATE%'"""
WAITING_ROLL_UPS = f"{ROLL_UPS} AND wait_event_type = 'Lock'"
WAITING_SWEEPS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.mark.parametrize("victim", ["worker", "pool"])
def test_kill_9_in_the_middle_of_a_roll_up_loses_nothing_and_counts_nothing_twice(
    installation: Installation, victim: str
):
    with installation.database() as connection:
        connection.execute("SELECT 1 FROM budgets_series FOR UPDATE")
        installation.post()
        installation.post(ago=timedelta(hours=5))
        # A worker waits inside its transaction: its batches are claimed, and nothing is written yet.
        assert eventually(lambda: installation.value_of(WAITING_ROLL_UPS) > 0)
        if victim == "worker":
            installation.kill_worker()
        else:
            installation.kill_pool()
        # The lock is let go, and PostgreSQL finds that nobody listens any more.
    if victim == "worker":
        assert eventually(lambda: installation.value_of(ROLL_UPS) == 0)
        assert installation.pending == 2
        installation.start_worker()

    assert installation.is_caught_up(), installation.log_of("worker")
    installation.assert_nothing_was_lost_or_counted_twice()


def test_with_redis_away_a_post_is_answered_and_its_roll_up_follows_when_redis_is_back(
    installation: Installation,
):
    worker, beat = installation.processes["worker"], installation.processes["beat"]
    said_before = len(installation.log_of("worker"))
    installation.servers.stop_valkey()
    # What it had in hand it may still finish; after that nothing reaches it.
    assert eventually(lambda: "Trying again in" in installation.log_of("worker")[said_before:])
    for _ in range(3):
        answer = installation.post()
        assert answer.status == 200
        assert answer.seconds < 2
    assert installation.pending == 3
    assert installation.ask("GET", "/readyz").status == 503
    installation.servers.start_valkey()

    assert installation.is_caught_up(), installation.log_of("worker") + installation.log_of("beat")
    assert worker.is_running
    assert beat.is_running
    assert installation.post().status == 200
    assert installation.is_caught_up(), installation.log_of("worker")
    installation.assert_nothing_was_lost_or_counted_twice()


def test_redis_may_stay_away_for_longer_than_anybody_waits(installation: Installation):
    """A worker waits ever longer between its tries, up to LONGEST_WAIT_S. Nothing else waits for as long:
    the doorbell is silent for 5 s, a hint expires after 2 s, a connection is given up after 5 s."""
    beat, worker = installation.processes["beat"], installation.processes["worker"]
    said_before = {name: len(installation.log_of(name)) for name in ("worker", "beat")}

    def waits(name: str) -> list[float]:
        said = installation.log_of(name)[said_before[name] :]
        return [float(seconds) for seconds in re.findall(r"Trying again in ([\d.]+) seconds", said)]

    installation.servers.stop_valkey()
    # 1. Until the worker has waited for as long as it ever does, and then once more. Beat may wait or go on sweeping.
    assert eventually(
        lambda: installation.post().status == 200 and waits("worker").count(LONGEST_WAIT_S) >= 2, seconds=120
    ), installation.log_of("worker")
    assert max(*waits("worker"), *waits("beat")) == LONGEST_WAIT_S
    assert installation.pending >= 2
    # 2. Back, and at once as before.
    installation.servers.start_valkey()
    assert installation.is_caught_up(), installation.log_of("worker") + installation.log_of("beat")
    assert (worker.is_running, beat.is_running) == (True, True)
    assert eventually(lambda: installation.ask("GET", "/readyz").status == 200)
    installation.assert_nothing_was_lost_or_counted_twice()


def test_redis_may_go_away_while_tasks_are_in_the_hands_of_the_worker(installation: Installation):
    """They are lost with it, and the worker goes on: a task is a hint, and sweeps find the work."""
    worker = installation.processes["worker"]
    with installation.database() as connection:
        connection.execute("LOCK TABLE budgets_batch IN ACCESS EXCLUSIVE MODE")
        # Both processes wait for the lock, and the worker has received more than they can take.
        assert eventually(lambda: installation.value_of(WAITING_SWEEPS) >= 2)
        assert eventually(lambda: installation.unacknowledged > 0)
        installation.servers.stop_valkey()
    installation.servers.start_valkey()

    installation.post()
    assert installation.is_caught_up(), installation.log_of("worker")
    assert worker.is_running
    installation.assert_nothing_was_lost_or_counted_twice()


def test_with_postgresql_away_a_post_is_refused_with_a_hint_when_to_come_back(installation: Installation):
    installation.servers.stop_postgres()
    for _ in range(3):
        answer = installation.post()
        assert answer.status == 503
        assert answer.document["error"]["code"] == "database_unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.seconds < 5
    installation.servers.start_postgres()

    assert installation.post().status == 200
    assert installation.is_caught_up(), installation.log_of("worker")
    assert eventually(lambda: installation.ask("GET", "/readyz").status == 200)
    installation.assert_nothing_was_lost_or_counted_twice()


def test_a_post_to_a_read_only_postgresql_is_refused_until_it_may_write_again(installation: Installation):
    """As after a failover to a standby."""

    def make_read_only(value: str) -> None:
        with installation.database() as connection:
            connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            connection.commit()
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.commit()

    make_read_only("on")
    refused = installation.post()
    assert (refused.status, refused.document["error"]["code"]) == (503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    make_read_only("off")

    assert eventually(lambda: installation.post().status == 200)
    assert installation.is_caught_up(), installation.log_of("worker")
    assert installation.ask("GET", "/readyz").document["failed_batches"] == 0
    installation.assert_nothing_was_lost_or_counted_twice()


@contextlib.contextmanager
def load(installation: Installation) -> Iterator[list[str]]:
    """Two senders that repeat under the same key what was not answered; gives the keys that were repeated."""
    is_over = threading.Event()
    repeated: list[str] = []

    def send() -> None:
        while not is_over.is_set():
            # The same body each time: the first try may have been stored, and only its answer lost.
            idempotency_key, now = str(uuid.uuid4()), datetime.now(UTC)
            while installation.post(now=now, **{"Idempotency-Key": idempotency_key}).status != 200:
                repeated.append(idempotency_key)
                if is_over.wait(0.05):  # a pause between tries, as any sender makes
                    return

    with ThreadPoolExecutor(2) as pool:
        senders = [pool.submit(send) for _ in range(2)]
        try:
            yield repeated
        finally:
            is_over.set()
    for sender in senders:
        sender.result()


def test_a_crash_of_postgresql_under_load_loses_nothing_that_was_accepted(installation: Installation):
    postgres = installation.servers.postgres
    assert postgres is not None
    with load(installation) as repeated:
        before = installation.accepted
        assert eventually(lambda: installation.accepted > before + 100)
        os.kill(postgres.pid, signal.SIGQUIT)  # ends at once, without a checkpoint
        assert eventually(lambda: not postgres.is_running)
        assert eventually(lambda: bool(repeated))
        installation.servers.stop_postgres()
        installation.servers.start_postgres()
        recovered = installation.accepted
        assert eventually(lambda: installation.accepted > recovered + 100)

    assert installation.is_caught_up(), installation.log_of("worker")
    installation.assert_nothing_was_lost_or_counted_twice()


def test_two_beats_change_nothing(installation: Installation):
    installation.start_beat("second-beat")
    sweep = "SELECT max(finished_at) FROM budgets_sweep WHERE name = 'roll_up'"
    for _ in range(3):
        before = installation.value_of(sweep)
        installation.post()
        assert eventually(lambda since=before: installation.value_of(sweep) > since)
    installation.end("second-beat")

    assert installation.is_caught_up()
    installation.assert_nothing_was_lost_or_counted_twice()
