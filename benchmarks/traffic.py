"""What is sent: the same measurements as a body of the API and as rows for COPY."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from . import copies

ENVIRONMENT = "production"
RELEASE = "v412"
FEATURES = ("support-chat", "inline-help", "report-writer", "research-agent")
COMPONENTS = ("model", "retrieval", "tools", "overhead")
MILESTONES = ("first_token", "complete")
# A feature and what of it was measured.
Named = tuple[str, Mapping[str, str]]
# Twenty-four series, by name.
SERIES: tuple[Named, ...] = (
    *((feature, {"component": name}) for feature in FEATURES for name in COMPONENTS),
    *((feature, {"milestone": name}) for feature in FEATURES for name in MILESTONES),
)

_STATUSES = ("ok", "error", "timeout")
_STATUS_RATIOS = (0.985, 0.01, 0.005)
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def feature_document(name: str) -> dict[str, Any]:
    """What declares a feature with the components and milestones that are sent."""
    return {
        "name": name.replace("-", " ").capitalize(),
        "kind": "interactive_chat",
        "components": list(COMPONENTS),
        "latency_budgets": [
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300},
            },
            {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
        ],
    }


@dataclass(frozen=True, eq=False)
class Batch:
    """The measurements of one POST: `series` are indexes into `names`, `trace_id` 16 bytes each."""

    series: np.ndarray
    started_at: list[datetime]
    duration_ms: np.ndarray
    status: np.ndarray
    trace_id: list[bytes]
    names: Sequence[Named] = SERIES

    def __len__(self) -> int:
        return len(self.started_at)

    @cached_property
    def body(self) -> bytes:
        """JSON as a service sends it: seven fields an item, about 200 bytes."""
        items = [
            {
                "feature": self.names[series][0],
                **self.names[series][1],
                "started_at": started_at,
                "duration_ms": duration_ms,
                "status": _STATUSES[status],
                "trace_id": trace_id.hex(),
                "release": RELEASE,
            }
            for series, started_at, duration_ms, status, trace_id in zip(
                self.series.tolist(),
                self.started_at,
                self.duration_ms.tolist(),
                self.status.tolist(),
                self.trace_id,
                strict=True,
            )
        ]
        return msgspec.json.encode({"measurements": items})

    @cached_property
    def copy_payload(self) -> bytes:
        """PostgreSQL's binary COPY of the columns COPY_COLUMNS."""
        return copies.of_numbers(
            {
                "ended_at": self._ended_us().astype(">i8"),
                "duration_ms": self.duration_ms.astype(">f8"),
                "batch_id": np.ones(len(self), dtype=">i8"),
                "series_id": (self.series + 1).astype(">i4"),
                "status": self.status.astype(">i2"),
                "trace_id": np.frombuffer(b"".join(self.trace_id), dtype="V16"),
            }
        )

    def _ended_us(self) -> np.ndarray:
        """Microseconds since PostgreSQL's epoch."""
        microsecond = timedelta(microseconds=1)
        started_us = np.array([(at - _POSTGRES_EPOCH) // microsecond for at in self.started_at])
        return started_us + np.rint(self.duration_ms * 1e3).astype(np.int64)


COPY_COLUMNS = ("ended_at", "duration_ms", "batch_id", "series_id", "status", "trace_id")


def batches(
    *,
    count: int,
    size: int,
    until: datetime,
    lasting: timedelta,
    seed: int,
    names: Sequence[Named] = SERIES,
) -> Iterator[Batch]:
    """`count` batches of `size` that follow each other over the time `lasting` up to `until`.

    All series occur alike in each; durations are lognormal around a series' own median.
    """
    rng = np.random.default_rng(seed)
    medians_ms = rng.uniform(80, 1500, len(names))
    offsets_s = np.sort(rng.uniform(0, lasting.total_seconds(), (count, size)), axis=None).reshape(
        count, size
    )
    begin = 0
    for offsets in offsets_s:
        # One after the other, also where there are more series than measurements in a batch.
        series = (
            rng.permutation((begin + np.arange(size)) % len(names))
            if size > 1
            else rng.integers(0, len(names), 1)
        )
        begin += size if size < len(names) else 0
        duration_ms = np.round(medians_ms[series] * rng.lognormal(0, 0.5, size), 3)
        ended_at = [until - lasting + timedelta(seconds=offset) for offset in offsets.tolist()]
        yield Batch(
            series=series,
            started_at=[
                at - timedelta(milliseconds=ms) for at, ms in zip(ended_at, duration_ms.tolist(), strict=True)
            ],
            duration_ms=duration_ms,
            status=rng.choice(3, size, p=_STATUS_RATIOS),
            trace_id=[rng.bytes(16) for _ in range(size)],
            names=names,
        )
