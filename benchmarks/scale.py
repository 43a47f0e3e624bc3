"""How much each benchmark does: all sizes on one screen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts and times that bound a run.

    `ingest_seconds` is how long one contender sends in one round, `rollup_batches` the backlog of one round
    in batches of 1000, `delay_tries` the incidents that are opened.
    """

    ingest_rounds: int
    ingest_seconds: float
    rollup_rounds: int
    rollup_batches: int
    delay_tries: int


SCALES = {
    # About three minutes on two cores.
    "small": Scale(
        ingest_rounds=5,
        ingest_seconds=1.0,
        rollup_rounds=3,
        rollup_batches=1000,
        delay_tries=50,
    ),
    # Proves that every part works and measures nothing.
    "tiny": Scale(
        ingest_rounds=1,
        ingest_seconds=0.05,
        rollup_rounds=1,
        rollup_batches=3,
        delay_tries=2,
    ),
}
