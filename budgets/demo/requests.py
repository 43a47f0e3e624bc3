"""Drawn requests as items of the ingest endpoint's ``requests`` list."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from budgets.demo.shapes import Floats, Requests

STATUSES = ("ok", "error", "timeout")


class Call(msgspec.Struct, omit_defaults=True, gc=False):
    component: str
    offset_ms: float
    duration_ms: float
    status: str = "ok"
    span_id: str | None = None


class Request(msgspec.Struct, omit_defaults=True):
    feature: str
    trace_id: str
    started_at: float  # Unix seconds
    release: str
    milestones: dict[str, float]
    components: list[Call]
    status: str = "ok"
    labels: dict[str, str] | None = None


def count_measurements(requests: Requests) -> NDArray[np.int64]:
    """How many measurements each request counts for at the ingest endpoint: its milestones and its calls."""
    reached = sum(~np.isnan(times) for times in requests.milestones.values())
    return np.asarray(requests.happened.sum(axis=0) + reached, np.int64)


def write(
    feature: str, release: str, requests: Requests, ended_at: Floats, rng: np.random.Generator
) -> list[Request]:
    """The requests that ended at these Unix seconds, with trace ids, and with span ids where a component
    may be called several times."""
    n = len(requests)
    traces = rng.bytes(16 * n).hex()
    started_at = np.round(ended_at - requests.total_ms / 1000, 3).tolist()
    names = list(requests.milestones)
    reached = zip(*(np.round(times, 1).tolist() for times in requests.milestones.values()), strict=True)
    has_spans = len(set(requests.components)) < len(requests.components)
    columns = [
        [
            Call(component, offset, duration, STATUSES[status], span) if happened else None
            for offset, duration, status, happened, span in zip(
                np.round(requests.offsets[row], 1).tolist(),
                np.round(requests.durations[row], 1).tolist(),
                requests.call_statuses[row].tolist(),
                requests.happened[row].tolist(),
                _span_ids(rng, n) if has_spans else [None] * n,
                strict=True,
            )
        ]
        for row, component in enumerate(requests.components)
    ]
    return [
        Request(
            feature,
            traces[32 * index : 32 * index + 32],
            start,
            release,
            # NaN, a milestone that was not reached, is not equal to itself.
            {name: time for name, time in zip(names, times, strict=True) if time == time},
            [call for call in calls if call is not None],
            STATUSES[status],
            _labels(cold, tool),
        )
        for index, (start, times, calls, status, cold, tool) in enumerate(
            zip(
                started_at,
                reached,
                zip(*columns, strict=True),
                requests.statuses.tolist(),
                requests.cold.tolist(),
                [None] * n if requests.tools is None else requests.tools.tolist(),
                strict=True,
            )
        )
    ]


def _labels(is_cold: bool, tool: str | None) -> dict[str, str] | None:
    labels = {"cache": "cold"} if is_cold else {}
    if tool is not None:
        labels["tool"] = tool
    return labels or None


def _span_ids(rng: np.random.Generator, n: int) -> list[str]:
    ids = rng.bytes(8 * n).hex()
    return [ids[16 * index : 16 * index + 16] for index in range(n)]
