"""Measurements a second over HTTP, beside a plain endpoint that does the same, and beside bare COPY.

The product and the plain endpoint (drf_app) get the same bodies from the same client and are served by the
same command. Bare COPY writes the same rows in PostgreSQL's binary format, made beforehand, into the same
table of a database of its own, and commits as often: what no ingest over HTTP can exceed.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Protocol

from .bench import Bench
from .posts import Poster
from .report import Aim, Figure, Section
from .stack import EMPTY_COPY, Stack, connect
from .traffic import COPY_COLUMNS, Batch, batches

# Measurements a request, and clients that send at the same time.
CASES = ((1, 1), (100, 1), (1000, 1), (1000, 2))
PRODUCT, PLAIN, COPY = "product", "DRF", "COPY"
# What the product's rate divided by the other's is to be, with one client at 1000 a request.
AIMS = {PLAIN: 8.0, COPY: 0.35}

_PLAIN_DATABASE = "plain"
_BATCHES = {1: 400, 100: 60, 1000: 20}

_COPY_STATEMENT = f"COPY budgets_measurement ({', '.join(COPY_COLUMNS)}) FROM STDIN (FORMAT binary)"


class Client(Protocol):
    """Stores the next batch at each call and says how many measurements it held."""

    def __call__(self) -> int: ...

    def close(self) -> None: ...


Contender = Callable[[Sequence[Batch]], Client]


def run(bench: Bench) -> Section:
    """Lets the contenders send in turns, each for a moment in every round."""
    stack, scale = bench.stack, bench.scale
    now = datetime.now(tz=UTC)
    prepared = {
        size: list(batches(count=count, size=size, until=now, lasting=timedelta(minutes=5), seed=size))
        for size, count in _BATCHES.items()
    }
    for batch in (batch for one in prepared.values() for batch in one):
        _ = batch.body, batch.copy_payload  # made now, not while they are sent
    contenders: dict[str, Contender] = {
        PRODUCT: bench.product_client,
        PLAIN: _plain(stack),
        COPY: partial(_Copier, stack.data_dir),
    }
    samples: dict[tuple[int, int], dict[str, list[float]]] = {
        case: {name: [] for name in contenders} for case in CASES
    }
    for name, contender in contenders.items():
        for size in prepared:  # connections, partitions and plans are there before the first round
            _rate(contender, prepared[size], clients=2, seconds=0)
        bench.say(f"ingest: {name} is ready")
    for number in range(scale.ingest_rounds):
        for case in CASES:
            size, clients = case
            for name, contender in contenders.items():
                rate = _rate(contender, prepared[size], clients=clients, seconds=scale.ingest_seconds)
                samples[case][name].append(rate)
        bench.forget_pending()
        bench.say(f"ingest: round {number + 1} of {scale.ingest_rounds}")
    return _section(samples, scale.ingest_rounds)


def _section(samples: dict[tuple[int, int], dict[str, list[float]]], rounds: int) -> Section:
    rows = {
        f"{size} a request, {clients} client{'s' if clients > 1 else ''}": _figures(rates)
        for (size, clients), rates in samples.items()
    }
    at_1000 = _figures(samples[1000, 1])
    return Section(
        title=f"Ingest: measurements stored a second (median of {rounds} rounds)",
        rows=rows,
        aims=[
            Aim(f"1000 a request: product ÷ {name}", at_1000[f"÷ {name}"].value, "≥", bound)
            for name, bound in AIMS.items()
        ],
        notes=[
            "DRF: a plain Django REST framework endpoint with bulk_create. COPY: binary COPY of the same rows, made",
            "beforehand; it commits as many at a time as a request holds, and its clients are connections.",
        ],
    )


def _figures(rates: dict[str, list[float]]) -> dict[str, Figure]:
    """The product's figure, and each other contender's with how often it goes into the product's."""
    figures = {PRODUCT: Figure.median_of(rates[PRODUCT], "/s")}
    for name in AIMS:
        figures[name] = Figure.median_of(rates[name], "/s")
        figures[f"÷ {name}"] = Figure(figures[PRODUCT].value / figures[name].value, "×")
    return figures


def _rate(
    contender: Contender,
    prepared: Sequence[Batch],
    *,
    clients: int,
    seconds: float,
) -> float:
    """Measurements a second that clients store side by side, each sending again as soon as it is answered."""
    with ExitStack() as open_clients:
        # Each begins elsewhere among the batches.
        starts = [len(prepared) * number // clients for number in range(clients)]
        ready = [
            open_clients.enter_context(closing(contender([*prepared[start:], *prepared[:start]])))
            for start in starts
        ]
        for client in ready:
            client()
        with ThreadPoolExecutor(clients) as threads:
            began = time.perf_counter()
            deadline = began + seconds
            stored = sum(threads.map(_send_until, ready, [deadline] * clients))
            return stored / (time.perf_counter() - began)


def _send_until(client: Client, deadline: float) -> int:
    stored = client()
    while time.perf_counter() < deadline:
        stored += client()
    return stored


class _Copier:
    """The client without HTTP: a connection to the database that commits a batch at a time."""

    def __init__(self, data_dir: Path, prepared: Sequence[Batch]) -> None:
        self._connection = connect(data_dir, EMPTY_COPY)
        self._batches = cycle(prepared)

    def __call__(self) -> int:
        batch = next(self._batches)
        with self._connection.cursor().copy(_COPY_STATEMENT) as copy:
            copy.write(batch.copy_payload)
        return len(batch)

    def close(self) -> None:
        self._connection.close()


def _plain(stack: Stack) -> Contender:
    """The plain endpoint, over a database of its own."""
    stack.make_database(_PLAIN_DATABASE)
    stack.run("plain", "-m", "django", "migrate", "--run-syncdb", "--settings", "benchmarks.drf_app.settings")
    token = secrets.token_urlsafe(40)
    with connect(stack.data_dir, _PLAIN_DATABASE) as connection:
        digest = hashlib.sha256(token.encode()).digest()
        connection.execute("INSERT INTO drf_app_key (digest) VALUES (%s)", [digest])
    port = stack.serve("benchmarks.drf_app.wsgi:application", "plain")
    return partial(Poster, port, "/measurements", token)
