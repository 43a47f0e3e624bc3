"""How much each benchmark does: all sizes on one screen."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Fill:
    """What a database is filled with: measurements spread evenly over whole days up to now.

    A feature has two milestones beside its components, each of them one series. `requests` is how many there
    were of all features together; each measured every series of its feature once. Where traffic is skewed, the
    n-th feature gets its share by 1/n, else all get the same. Hours and days reach back `history_days`.
    """

    features: int
    components: int
    requests: int
    raw_days: int
    history_days: int = 28
    is_skewed: bool = False

    @property
    def series(self) -> int:
        return self.features * (self.components + 2)

    @property
    def measurements(self) -> int:
        return self.requests * (self.components + 2)


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts and times that bound a run.

    `ingest_seconds` is how long one contender sends in one round, `rollup_batches` the backlog of one round
    in batches of 1000, `delay_tries` the incidents that are opened. `alerting_months` are simulated of each
    cell, `alerting_slowdowns` of each cell and size. `hour_batches` are the batches of 1000 in
    which an hour's history is sent, after `hour_seconds` of it at the speed at which it happened.
    """

    benchmarks: tuple[str, ...]
    ingest_rounds: int
    ingest_seconds: float
    rollup_rounds: int
    rollup_batches: int
    delay_tries: int
    repetitions: int
    status: Fill
    evaluation_features: int
    alerting_months: int
    alerting_slowdowns: int
    percentile_values: int
    storage_measurements: int
    storage_rates: tuple[int, ...]  # measurements of a series in a minute
    pages_features: tuple[int, int]
    hour_seconds: float
    hour_batches: int
    growth: tuple[Fill, Fill]
    free_disk_gb: float


_ALL_BUT_GROWTH = (
    "ingest", "rollup", "status", "evaluation", "alerting", "percentiles", "storage", "pages", "drawing",
    "delay", "hour",
)  # fmt: skip
_SMALL_FILL = Fill(features=10, components=8, requests=100_000, raw_days=3)

# Everything but growth, about eight minutes on two cores.
_SMALL = Scale(
    benchmarks=_ALL_BUT_GROWTH,
    ingest_rounds=5,
    ingest_seconds=1.0,
    rollup_rounds=3,
    rollup_batches=1000,
    delay_tries=50,
    repetitions=15,
    status=Fill(features=1, components=4, requests=150_000, raw_days=1),
    evaluation_features=1000,
    alerting_months=60,
    alerting_slowdowns=100,
    percentile_values=1_000_000,
    storage_measurements=300_000,
    storage_rates=(1, 10, 100, 1000),
    pages_features=(20, 200),
    hour_seconds=30.0,
    hour_batches=1200,
    growth=(_SMALL_FILL, Fill(features=50, components=8, requests=300_000, raw_days=3, is_skewed=True)),
    free_disk_gb=6,
)

SCALES = {
    "small": _SMALL,
    # Ten million raw measurements beside one million: about three minutes.
    "medium": replace(
        _SMALL,
        benchmarks=("growth",),
        growth=(
            _SMALL_FILL,
            Fill(features=200, components=8, requests=1_000_000, raw_days=3, is_skewed=True),
        ),
        rollup_batches=300,
        free_disk_gb=10,
    ),
    # A hundred million beside one million, and an hour at 2000 measurements/s: about twenty-five minutes.
    "large": replace(
        _SMALL,
        benchmarks=("hour", "growth"),
        hour_batches=7200,
        growth=(
            _SMALL_FILL,
            Fill(features=500, components=8, requests=10_000_000, raw_days=3, is_skewed=True),
        ),
        rollup_batches=300,
        free_disk_gb=25,
    ),
    # Proves that every part works and measures nothing.
    "tiny": Scale(
        benchmarks=(*_ALL_BUT_GROWTH, "growth"),
        ingest_rounds=1,
        ingest_seconds=0.05,
        rollup_rounds=1,
        rollup_batches=3,
        delay_tries=2,
        repetitions=2,
        status=Fill(features=1, components=4, requests=2000, raw_days=1, history_days=3),
        evaluation_features=4,
        alerting_months=1,
        alerting_slowdowns=2,
        percentile_values=20_000,
        storage_measurements=2000,
        storage_rates=(1, 10),
        pages_features=(2, 5),
        hour_seconds=1.0,
        hour_batches=6,
        growth=(
            Fill(features=1, components=3, requests=500, raw_days=2, history_days=4),
            Fill(features=3, components=3, requests=2000, raw_days=2, history_days=4, is_skewed=True),
        ),
        free_disk_gb=1,
    ),
}
