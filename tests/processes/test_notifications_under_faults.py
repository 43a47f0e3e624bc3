"""A script of faults, and a receiver that writes down what came: every message arrives, at most once more than once.

One incident is tipped at each fault. At the end of the script each must have been told of under exactly one message
id, and no id must have come more than twice: a worker that is killed after sending and before recording is the one
case in which a receiver sees a copy, and the id lets it drop that.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.children import PROJECT, eventually
from tests.factories import SECRET
from tests.processes.installation import FEATURE, Installation, installed
from tests.receivers import Exchange, ReceivedRequest, Reply, WebhookReceiver

pytestmark = pytest.mark.processes

# Longer by hand: REDIS_OUTAGE_SECONDS=600 is the outage that an operator should be able to sleep through.
REDIS_OUTAGE_S = float(os.environ.get("REDIS_OUTAGE_SECONDS", "8"))
# A message whose worker died is sent again when its lease of 30 s is over.
ARRIVES_WITHIN_S = 150.0


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


@pytest.fixture(scope="module")
def installation(receiver: WebhookReceiver) -> Iterator[Installation]:
    before = os.environ.get("OUTBOUND_ALLOWED_CIDRS")
    os.environ["OUTBOUND_ALLOWED_CIDRS"] = "127.0.0.1/32"
    try:
        with installed() as made:
            channel = {"kind": "webhook", "url": receiver.url, "secret": SECRET}
            assert made.ask("PUT", "/api/v1/channels/on-call", channel).status == 201
            yield made
    finally:
        if before is None:
            del os.environ["OUTBOUND_ALLOWED_CIDRS"]
        else:
            os.environ["OUTBOUND_ALLOWED_CIDRS"] = before


def declare(installation: Installation, fault: str) -> None:
    """A feature of its own for this fault."""
    document = {**FEATURE, "name": fault}
    assert installation.ask("PUT", f"/api/v1/features/{fault}", document).status == 201


def tip(installation: Installation, fault: str) -> None:
    """Requests that miss the latency budget, enough to page; repeated until they are accepted."""
    now = datetime.now(UTC)
    started_at = (now - timedelta(milliseconds=9_000)).isoformat()
    item = {"feature": fault, "milestone": "first_token", "started_at": started_at, "duration_ms": 9_000}
    body = {"measurements": [item] * 40}

    def is_accepted() -> bool:
        answer = installation.ask("POST", "/api/v1/measurements", body, **{"Idempotency-Key": fault})
        return answer.status == 200

    assert eventually(is_accepted, seconds=60), installation.log_of("web")


class Hold:
    """A receiver that has read a message and keeps its answer back until it is told to give it."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver
        self._seen = len(receiver.requests)
        receiver.answer(Reply(script=Exchange.hang))

    def wait(self) -> None:
        """Until the message has arrived."""
        self._receiver.wait_for(self._seen + 1, timeout_s=60)


def test_every_message_arrives_whatever_is_killed_or_stopped(
    installation: Installation, receiver: WebhookReceiver
) -> None:
    kills = [f"killed-after-{delay_ms}-ms" for delay_ms in (0, 60, 250)]
    faults = [
        "none",
        *kills,
        "killed-while-sending",
        "pool-killed-while-evaluating",
        "web-killed",
        "beat-and-worker-killed",
        "redis-away",
        "postgresql-restarted-while-sending",
        "two-beats",
        "receiver-fails",
    ]
    for fault in faults:
        declare(installation, fault)

    def openings() -> list[ReceivedRequest]:
        return [one for one in receiver.requests if one.json()["type"] == "incident.opened"]

    def copies_of(fault: str) -> int:
        return sum(one.json()["data"]["incident"]["feature"] == fault for one in openings())

    def has_arrived(fault: str) -> bool:
        return copies_of(fault) > 0

    undelivered = "SELECT count(*) FROM alerts_notification WHERE state <> 'delivered'"

    def is_recorded(fault: str) -> bool:
        """Arrived, and written down: what is killed from now on is something else."""
        return has_arrived(fault) and installation.value_of(undelivered) == 0

    tip(installation, "none")
    assert eventually(lambda: is_recorded("none"), seconds=60), installation.log_of("worker")

    # 1. kill -9 of everything that works, at some point between the measurement and the message.
    for fault in kills:
        tip(installation, fault)
        time.sleep(int(fault.split("-")[2]) / 1000)  # the point at which it is killed
        installation.kill_worker()
        installation.start_worker()

    # 2. kill -9 between sending and recording: the receiver has it, nobody wrote that down.
    held = Hold(receiver)
    tip(installation, "killed-while-sending")
    held.wait()
    installation.kill_worker()
    installation.start_worker()

    # 3. kill -9 of the processes in which rules are evaluated, while they wait in the middle of it.
    with installation.database() as connection:
        connection.execute("LOCK TABLE alerts_incident IN ACCESS EXCLUSIVE MODE")
        tip(installation, "pool-killed-while-evaluating")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert eventually(lambda: installation.value_of(waiting) > 0, seconds=60)
        installation.kill_pool()

    # 4. kill -9 of the web process that has just accepted it; and of beat, while no worker is there that a hint reaches.
    tip(installation, "web-killed")
    installation.kill("web")
    installation.start_web()
    installation.kill("beat")
    installation.kill_worker()
    tip(installation, "beat-and-worker-killed")
    installation.start_worker()
    installation.start_beat()
    assert eventually(lambda: is_recorded("beat-and-worker-killed"), seconds=ARRIVES_WITHIN_S)

    # 5. Redis is away, and nothing rings.
    installation.servers.stop_valkey()
    tip(installation, "redis-away")
    time.sleep(REDIS_OUTAGE_S)  # how long it is away
    assert not has_arrived("redis-away")
    installation.servers.start_valkey()
    assert eventually(lambda: is_recorded("redis-away"), seconds=ARRIVES_WITHIN_S), installation.log_of(
        "worker"
    )

    # 6. PostgreSQL is restarted between sending and recording.
    held = Hold(receiver)
    tip(installation, "postgresql-restarted-while-sending")
    held.wait()
    postgres = installation.servers.postgres
    assert postgres is not None
    os.kill(postgres.pid, signal.SIGQUIT)
    assert eventually(lambda: not postgres.is_running)
    installation.servers.stop_postgres()
    installation.servers.start_postgres()

    # 7. Two beats ring for the same work.
    installation.start_beat("second-beat")
    tip(installation, "two-beats")

    installation.start_again_what_ended()
    assert eventually(lambda: all(map(has_arrived, faults[:-1])), seconds=ARRIVES_WITHIN_S), (
        [fault for fault in faults if not has_arrived(fault)],
        installation.log_of("worker"),
    )
    assert eventually(lambda: installation.value_of(undelivered) == 0, seconds=ARRIVES_WITHIN_S)

    # 8. The receiver fails for three tries.
    receiver.answer(Reply(503), Reply(500), Reply(429, {"Retry-After": "1"}))
    tip(installation, "receiver-fails")
    assert eventually(lambda: copies_of("receiver-fails") == 4, seconds=ARRIVES_WITHIN_S)
    assert eventually(lambda: installation.value_of(undelivered) == 0, seconds=ARRIVES_WITHIN_S)
    installation.end("second-beat")

    # 9. A person resolves it, and everything that works is killed before anybody could be told.
    incident = installation.value_of(
        "SELECT i.id FROM alerts_incident i JOIN budgets_feature f ON f.id = i.feature_id WHERE f.slug = 'none'"
    )
    assert installation.ask("POST", f"/api/v1/incidents/{incident}/resolve", {"note": "over"}).status == 200
    installation.kill_worker()
    installation.start_worker()
    assert eventually(lambda: installation.value_of(undelivered) == 0, seconds=ARRIVES_WITHIN_S)
    ends = [one for one in receiver.requests if one.json()["type"] == "incident.resolved"]
    assert {one.json()["data"]["incident"]["feature"] for one in ends} == {"none"}
    assert len({one.headers["webhook-id"] for one in ends}) == 1
    assert len(ends) <= 2
    # What came, when and under which id; pytest -rP shows it.
    for one in receiver.requests:
        message = one.json()
        about = message["data"]["incident"]["feature"]
        print(f"{one.arrived_at:%H:%M:%S.%f} {message['type']:<18} {about:<36} {one.headers['webhook-id']}")

    ids: dict[str, set[str]] = defaultdict(set)
    for one in openings():
        ids[one.json()["data"]["incident"]["feature"]].add(one.headers["webhook-id"])
    assert {fault: len(found) for fault, found in ids.items()} == dict.fromkeys(faults, 1)
    # Once more at most, under the same id: where a worker or the database died between sending and recording.
    assert {fault for fault in faults[:-1] if copies_of(fault) > 2} == set()
    assert [copies_of(fault) for fault in ("none", "redis-away", "two-beats", "receiver-fails")] == [
        1,
        1,
        1,
        4,
    ]
    assert installation.value_of("SELECT count(*) FROM alerts_incident") == len(faults)


def test_whoever_follows_the_how_to_is_paged_and_told_why(
    installation: Installation, receiver: WebhookReceiver
) -> None:
    """Its commands, as they stand there; the receiver plays the chat."""
    page = (PROJECT / "docs/how-to/get-paged.md").read_text()
    commands = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert len(commands) == 3
    environment = {
        "PATH": os.environ["PATH"],
        "URL": f"http://127.0.0.1:{installation.port}",
        "KEY": installation.key,
        "HOOK": receiver.url,
    }
    before = len(receiver.requests)
    for command in commands:
        done = subprocess.run(
            ["bash", "-euc", command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert '"rejected":[]' in done.stdout

    def said() -> list[str]:
        return [one.body.decode() for one in receiver.requests[before:]]

    assert eventually(lambda: any("Paging drill" in one and "ools" in one for one in said()), seconds=30), (
        said()
    )
