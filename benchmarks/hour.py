"""An hour of history at 2000 measurements/s, sent to a product in use: pages are looked at and rules evaluated.

1. Its first part is sent at the speed at which it happened: twenty requests of 100 measurements a second.
2. The hour is sent as fast as the product takes it, by two clients at 1000 measurements a request.

Meanwhile somebody looks at the overview and a feature's page in turns, once a second, the workers roll up,
evaluate and derive as they always do, and the oldest batch that waits is looked at twenty times a second.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from . import memory
from .api import Api
from .bench import TEAM, Bench
from .posts import Poster, PostError
from .report import Figure, Section, number, percentile
from .stack import Served, connect
from .traffic import FEATURES, Batch, batches, feature_document
from .visitors import Visitor

RATE = 2000
HOUR = timedelta(hours=1)

_LIVE_SIZE = 100
_BULK_SIZE = 1000
_CLIENTS = 2
# So many different bodies are made; where the hour has more batches, each is sent several times in a row.
_BODIES = 360
_LOOK_S = 0.05
_VISIT_S = 1.0
_LOST_AFTER_S = 120.0


@dataclass
class Phase:
    """What was seen while one part of the history was sent."""

    measurements: int = 0
    seconds: float = 0.0
    answers_ms: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    sweep_ages_s: list[float] = field(default_factory=list)
    pages_ms: list[float] = field(default_factory=list)
    turned_away: int = 0
    caught_up_s: float = 0.0

    def figures(self) -> dict[str, Figure]:
        return {
            "measurements": Figure(self.measurements, ""),
            "taken in": Figure(self.measurements / self.seconds, "/s"),
            "answer p50": Figure(percentile(self.answers_ms, 50), "ms"),
            "answer p99": Figure(percentile(self.answers_ms, 99), "ms"),
            "lag p95": Figure(percentile(self.lags_s, 95), "s"),
            "lag max": Figure(max(self.lags_s), "s"),
            "caught up after": Figure(self.caught_up_s, "s"),
            "page p50": Figure(percentile(self.pages_ms, 50), "ms"),
            "page p95": Figure(percentile(self.pages_ms, 95), "ms"),
            "evaluated at least every": Figure(max(self.sweep_ages_s), "s"),
            "429": Figure(self.turned_away, ""),
        }


def run(bench: Bench) -> Section:
    """Sends both parts to a product of its own."""
    scale = bench.scale
    password = secrets.token_urlsafe(12)
    with bench.served() as served, ExitStack() as open_clients:
        served.command(
            "ensure_admin", "--email", "visitor@example.com", "--password", password, "--team", TEAM
        )
        token = served.make_key(TEAM, "ingest", "read", "write")
        with closing(Api(served.port, token)) as api:
            for name in FEATURES:
                api.call("PUT", f"features/{name}", feature_document(name))
        visitor = Visitor(served.port, "visitor@example.com", password)
        open_clients.callback(visitor.close)
        bench.say("hour: the product is up")

        def client(made: Sequence[Batch]) -> Poster:
            return open_clients.enter_context(
                closing(Poster(served.port, "/api/v1/measurements", token, made))
            )

        live, hour = Phase(), Phase()
        with _watched(served, visitor, live):
            _send_live(client, live, scale.hour_seconds)
        bench.say(f"hour: {live.measurements} measurements at the speed of life")
        with _watched(served, visitor, hour):
            _send_hour(client, hour, scale.hour_batches)
        bench.say(f"hour: {hour.measurements} measurements as fast as they were taken")
        held = memory.held_by_program(served.pid)
    part = scale.hour_batches * _BULK_SIZE / (RATE * HOUR.total_seconds())
    rows = {
        f"as it happens, {number(scale.hour_seconds)} s at {RATE}/s": live.figures(),
        f"{number(part * 100)} % of an hour at {RATE}/s, at once": hour.figures(),
    }
    # Turned round: each has many figures.
    turned = {name: {label: figures[name] for label, figures in rows.items()} for name in live.figures()}
    for program, one in sorted(held.items(), key=lambda item: -item[1].pss):
        turned[f"memory: {program} ({one.processes})"] = {
            "PSS": Figure(one.pss, "MB"),
            "largest RSS": Figure(one.rss, "MB"),
        }
    return Section(
        title=f"An hour of history at {RATE} measurements/s while pages are looked at and rules evaluated",
        rows=turned,
        notes=[
            "Lag is the age of the oldest batch that is not rolled up, looked at 20 times a second. The client that sends,",
            "the product and its PostgreSQL share the processors. Memory is at the end, by program, its processes in",
            "brackets: PSS counts what processes share once, and PostgreSQL's holds its shared buffers.",
        ],
    )


def _send_live(client: Callable[[Sequence[Batch]], Poster], phase: Phase, seconds: float) -> None:
    """Posts each batch at the moment at which its last measurement ended."""
    count, period_s = round(seconds * RATE / _LIVE_SIZE), _LIVE_SIZE / RATE
    begin = datetime.now(tz=UTC) + timedelta(seconds=count / 200)  # while the bodies are made
    made = list(
        batches(
            count=count,
            size=_LIVE_SIZE,
            until=begin + timedelta(seconds=seconds),
            lasting=timedelta(seconds=seconds),
            seed=1,
        )
    )
    post = client(made)
    begin_s = time.monotonic() + max(0.0, (begin - datetime.now(tz=UTC)).total_seconds())
    for position in range(count):
        time.sleep(max(0.0, begin_s + (position + 1) * period_s - time.monotonic()))
        _post(post, phase)
    phase.seconds = time.monotonic() - begin_s


def _send_hour(client: Callable[[Sequence[Batch]], Poster], phase: Phase, count: int) -> None:
    """Posts the batches of the past hour, oldest first, by several clients at once."""
    bodies = min(count, _BODIES)
    made = list(batches(count=bodies, size=_BULK_SIZE, until=datetime.now(tz=UTC), lasting=HOUR, seed=2))
    in_turn = [made[position * bodies // count] for position in range(count)]
    shares = [in_turn[first::_CLIENTS] for first in range(_CLIENTS)]
    posts = [client(share) for share in shares]
    phases = [Phase() for _ in shares]

    def send(number: int) -> None:
        while phases[number].measurements < len(shares[number]) * _BULK_SIZE:
            _post(posts[number], phases[number])

    began_s = time.monotonic()
    threads = [threading.Thread(target=send, args=[number]) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    phase.seconds = time.monotonic() - began_s
    for one in phases:
        phase.measurements += one.measurements
        phase.answers_ms += one.answers_ms
        phase.turned_away += one.turned_away
    assert phase.measurements == count * _BULK_SIZE, "a client failed"


def _post(post: Poster, phase: Phase) -> None:
    """Posts the next batch; where the backlog is full, waits as it is told to."""
    began = time.perf_counter()
    try:
        phase.measurements += post()
    except PostError as error:
        if error.status != 429:
            raise
        phase.turned_away += 1
        time.sleep(1.0)
    else:
        phase.answers_ms.append((time.perf_counter() - began) * 1e3)


@contextmanager
def _watched(served: Served, visitor: Visitor, phase: Phase) -> Iterator[None]:
    """Looks at backlog and pages until the block is over and nothing waits any more."""
    is_over = threading.Event()
    failures: list[BaseException] = []

    def repeated(every_s: float, look: Callable[[], object]) -> threading.Thread:
        def loop() -> None:
            try:
                while not is_over.wait(every_s):
                    look()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=loop)
        thread.start()
        return thread

    paths = ["/", f"/features/{FEATURES[0]}/?window=28d"]

    def visit() -> None:
        phase.pages_ms.append(visitor.fetch(paths[len(phase.pages_ms) % 2])[1])

    with connect(served.data_dir) as database:

        def backlog() -> float:
            row = database.execute(_OLDEST).fetchone()
            return 0.0 if row is None else max(0.0, float(row[0]))

        def look() -> None:
            phase.lags_s.append(backlog())
            row = database.execute(_SWEEP_AGE).fetchone()
            phase.sweep_ages_s.append(float(row[0]) if row else 0.0)

        threads = [repeated(_LOOK_S, look), repeated(_VISIT_S, visit)]
        try:
            visit()
            look()
            yield
            sent_s = time.monotonic()
            while backlog() and not failures:
                if time.monotonic() - sent_s > _LOST_AFTER_S:
                    raise TimeoutError(
                        f"{_LOST_AFTER_S:g} s after the last POST batches wait to be rolled up."
                    )
                time.sleep(_LOOK_S)
            phase.caught_up_s = time.monotonic() - sent_s
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
    if failures:
        raise failures[0]


_OLDEST = (
    "SELECT extract(epoch FROM clock_timestamp() - received_at) FROM budgets_batch WHERE state = 'pending'"
    " ORDER BY id LIMIT 1"
)
_SWEEP_AGE = (
    "SELECT extract(epoch FROM clock_timestamp() - finished_at) FROM budgets_sweep WHERE name = 'evaluate'"
)
