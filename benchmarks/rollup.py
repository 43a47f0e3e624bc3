"""Measurements rolled up a second, beside the rate at which they came in over HTTP."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

from .bench import Bench
from .report import Aim, Figure, Section
from .traffic import SERIES, batches

BATCH_SIZE = 1000
MINUTES = 60
AIM_TIMES_INGEST = 3.0


def run(bench: Bench) -> Section:
    """In each round a backlog is posted by one client and then rolled up in this process until none is left."""
    rounds, size = bench.scale.rollup_rounds, bench.scale.rollup_batches * BATCH_SIZE
    ingest_rates, rollup_rates, seconds = [], [], []
    for number in range(rounds):
        ingest_rates.append(_post_backlog(bench, seed=number))
        seconds.append(_roll_up(size))
        rollup_rates.append(size / seconds[-1])
        bench.say(f"rollup: round {number + 1} of {rounds}")
    return Section(
        title=f"Roll-up: a backlog of {size} measurements of {len(SERIES)} series over {MINUTES} minutes "
        f"(median of {rounds} rounds)",
        rows={
            "posted by one client, 1000 a request": {"": Figure.median_of(ingest_rates, "/s")},
            "rolled up by one worker": {"": Figure.median_of(rollup_rates, "/s")},
            "until none was pending": {"": Figure.median_of(seconds, "s")},
        },
        aims=[
            Aim(
                "roll-up ÷ ingest at 1000 a request",
                statistics.median(rollup_rates) / statistics.median(ingest_rates),
                "≥",
                AIM_TIMES_INGEST,
            )
        ],
    )


def _post_backlog(bench: Bench, *, seed: int) -> float:
    """Posts batches, oldest first, and gives the measurements a second."""
    count = bench.scale.rollup_batches
    # One batch for each minute, posted as often as there are to be batches in it: every batch is stored.
    minutes = min(MINUTES, count)
    period = timedelta(minutes=minutes)
    made = list(
        batches(count=minutes, size=BATCH_SIZE, until=datetime.now(tz=UTC), lasting=period, seed=seed)
    )
    with closing(bench.product_client([made[number * minutes // count] for number in range(count)])) as post:
        began = time.perf_counter()
        for _ in range(count):
            post()
        return count * BATCH_SIZE / (time.perf_counter() - began)


def _roll_up(size: int) -> float:
    """Rolls up all that is pending; the seconds that took."""
    from budgets import rollups

    rolled_up, is_more = 0, True
    began = time.perf_counter()
    while is_more:
        done = rollups.roll_up(now=datetime.now(tz=UTC))
        rolled_up += done.measurements
        is_more = done.is_more
    elapsed_s = time.perf_counter() - began
    assert rolled_up == size, f"{size} measurements were pending, {rolled_up} were rolled up"
    return elapsed_s
