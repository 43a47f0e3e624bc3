"""How far percentiles out of histograms are from those of the values themselves."""

from __future__ import annotations

import numpy as np

from .bench import Bench
from .report import Aim, Figure, Section, number

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
AIM_PERCENT = 1.1
# Values are spread over so many histograms, which are packed, joined and read as one, as those of minutes are.
MINUTES = 60


def run(bench: Bench) -> Section:
    """Compares them with numpy for several shapes of latency."""
    size, rng = bench.scale.percentile_values, np.random.default_rng(1)
    rows = {label: _errors(values, rng) for label, values in _shapes(rng, size).items()}
    worst = max(figures["p99.9"].value for figures in rows.values())
    return Section(
        title=f"Percentiles: how far off out of histograms, in percent of numpy's, {number(size)} values",
        rows=rows,
        aims=[Aim("p99.9, of all shapes the worst", worst, "≤", AIM_PERCENT, "%")],
        notes=[
            f"The values of each shape are spread over {MINUTES} histograms, packed and joined as minutes are."
        ],
    )


def _shapes(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """Durations in ms."""
    hits = rng.random(size) < 0.7
    return {
        "lognormal": 400 * rng.lognormal(0, 0.6, size),
        "bimodal: 70 % from a cache": np.where(
            hits, rng.normal(25, 4, size), rng.normal(1800, 300, size)
        ).clip(0.1),
        "heavy tail: Pareto, α = 1.2": 50 * (1 + rng.pareto(1.2, size)),
        "sum of four components": sum(median * rng.lognormal(0, s, size) for median, s in _FOUR),
        "whole milliseconds, uniform": rng.integers(1, 5001, size).astype(float),
    }


_FOUR = ((900, 0.4), (150, 0.8), (300, 1.0), (40, 0.5))


def _errors(values: np.ndarray, rng: np.random.Generator) -> dict[str, Figure]:
    from budgets.histogram import MAX_SCALE, LatencyHistogram, pack_groups

    zero_counts, packed = pack_groups(rng.integers(0, MINUTES, len(values)), values, MINUTES)
    histogram = LatencyHistogram.from_bytes(MAX_SCALE, int(zero_counts.sum()), b"".join(packed))
    figures = {}
    for name, quantile in QUANTILES.items():
        exact = float(np.quantile(values, quantile, method="inverted_cdf"))
        estimated = histogram.quantile(quantile)
        assert estimated is not None
        figures[name] = Figure(abs(estimated / exact - 1) * 100, "%")
    return figures
