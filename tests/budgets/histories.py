"""What may happen to a feature over three days, for property tests: batches in any order, roll-ups, compactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from django.db import transaction
from hypothesis import strategies as st

from budgets import ingest, rollups
from budgets.models import Feature, IngestKey
from tests.budgets.brute_force import DAY_US, HOUR_US, MINUTE_US, Sample, us
from tests.factories import NOW, make_feature, make_key, make_team

DAYS = 3
END_US = us(NOW.replace(second=0)) + MINUTE_US
START_US = END_US - DAYS * DAY_US

ALLOCATED_MS = {"model": 1500.0, "retrieval": 400.0}
BUDGET_MS = 3000.0
LIMITS_MS = {**ALLOCATED_MS, "tools": None, "complete": BUDGET_MS}
"""Of three components, of which tools are not allocated, and a milestone."""


def limit(name: str, minute_us: int) -> float | None:
    return LIMITS_MS[name]


@dataclass(frozen=True)
class Post:
    samples: list[Sample]


@dataclass(frozen=True)
class RollUp:
    pass


@dataclass(frozen=True)
class Compact:
    """A compaction for which it is so long before now: younger hours are not over yet."""

    ago: timedelta


Step = Post | RollUp | Compact

_edges = [
    minute
    for day in range(START_US // DAY_US * DAY_US, END_US, DAY_US)
    for minute in (day - MINUTE_US, day, day + HOUR_US - MINUTE_US, day + HOUR_US)
    if START_US <= minute < END_US
]
minutes = st.sampled_from([*_edges, START_US, END_US - MINUTE_US]) | st.integers(
    0, (END_US - START_US) // MINUTE_US - 1
).map(lambda n: START_US + n * MINUTE_US)
durations_ms = st.sampled_from([0.0, 0.001, 1.0, 400.0, 400.001, 1024.0, 1500.0, 30_000.0]) | st.floats(
    0.01, 100_000.0, allow_nan=False
)
samples = st.builds(
    Sample,
    name=st.sampled_from(sorted(LIMITS_MS)),
    ended_us=st.builds(
        int.__add__,
        minutes,
        st.sampled_from([0, 1, 29_999_999, MINUTE_US - 1]) | st.integers(0, MINUTE_US - 1),
    ),
    duration_ms=durations_ms,
    status=st.sampled_from(["ok", "ok", "ok", "timeout", "error"]),
    trace_id=st.none() | st.sampled_from(["0" * 31 + "1", "f" * 32, "80" + "0" * 30, "00ff" * 8]),
    release=st.sampled_from(["", "v1"]),
)
steps = (
    st.lists(samples, min_size=1, max_size=25).map(Post)
    | st.just(RollUp())
    | st.sampled_from([timedelta(0), timedelta(hours=5), timedelta(days=1), timedelta(days=2)]).map(Compact)
)
histories = st.lists(steps, min_size=1, max_size=12)
ranges_us = st.tuples(minutes, minutes | st.just(END_US)).map(
    lambda pair: (min(pair), max(pair) if pair[0] != pair[1] else max(pair) + MINUTE_US)
)


def samples_of(history: Iterable[Step]) -> list[Sample]:
    return [sample for step in history if isinstance(step, Post) for sample in step.samples]


@contextlib.contextmanager
def lived(history: Iterable[Step]) -> Iterator[Feature]:
    """A feature to which all of this happened, everything rolled up in the end; undone after the block."""
    with transaction.atomic():
        team = make_team()
        key, _ = make_key(team, "ingest")
        feature = make_feature(
            team=team,
            components=["model", "retrieval", "tools"],
            latency_budgets=[
                {
                    "milestone": "complete",
                    "budget_ms": BUDGET_MS,
                    "objective": 0.99,
                    "window_days": 28,
                    "allocations": ALLOCATED_MS,
                }
            ],
        )
        for step in history:
            match step:
                case Post(items):
                    post(key, feature, items)
                case RollUp():
                    roll_up_all()
                case Compact(ago):
                    rollups.compact(now=NOW - ago)
        roll_up_all()
        yield feature
        transaction.set_rollback(True)


def post(key: IngestKey, feature: Feature, items: Iterable[Sample], *, now: datetime = NOW) -> None:
    """Stores samples as one batch that waits to be rolled up."""
    body = msgspec.json.encode({"measurements": [sample.item(feature) for sample in items]})
    answer = ingest.accept(key=key, body=body, now=now)
    assert answer.status == 200, answer.document
    assert not answer.document["rejected"], answer.document


def roll_up_all() -> None:
    while rollups.roll_up(now=NOW).is_more:
        pass
