"""What ingest took in and what it refused, counted for /metrics."""

from __future__ import annotations

from collections import Counter as CountOf
from typing import Any

from prometheus_client import Counter

_ACCEPTED = Counter(
    "latency_dashboard_ingest_measurements_accepted",
    "Measurements that were stored, as the answers counted them.",
)
_REJECTED = Counter(
    "latency_dashboard_ingest_items_rejected",
    "Items of bodies that were rejected, by the code that the answer gave.",
    ["code"],
)
_BATCHES = Counter("latency_dashboard_ingest_batches", "Bodies of which something was stored.")
_REPLAYS = Counter(
    "latency_dashboard_ingest_replays", "Bodies that had been stored before, told by their idempotency key."
)
_RECEIVED = Counter("latency_dashboard_ingest_received_bytes", "Bytes of bodies, after inflating.")


def count_answer(document: dict[str, Any], *, body_bytes: int, is_stored: bool, is_replay: bool) -> None:
    """Counts an answer of POST /measurements; of a replay nothing but that it came."""
    _RECEIVED.inc(body_bytes)
    if is_replay:
        _REPLAYS.inc()
        return
    if is_stored:
        _BATCHES.inc()
        _ACCEPTED.inc(document["accepted"])
    if document["rejected"]:
        for code, count in CountOf(one["code"] for one in document["rejected"]).items():
            _REJECTED.labels(code).inc(count)
