"""What the web processes count as they go: requests and how long they took."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_REQUESTS = Counter(
    "latency_dashboard_http_requests",
    "Requests that were answered, by method, route and class of status.",
    ["method", "route", "status_class"],
)
# From an ingest of one measurement to a page over 28 days, and beyond.
_DURATION = Histogram(
    "latency_dashboard_http_request_duration_seconds",
    "Seconds from a request's arrival at the application to its answer.",
    ["method", "route"],
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


def count_request(method: str, route: str, status: int, took_s: float) -> None:
    """Counts an answered request. `route` is the pattern and not the path, so that there are few."""
    requests, duration = _meters_of(method if method in _METHODS else "other", route, status // 100)
    requests.inc()
    duration.observe(took_s)


@cache
def _meters_of(method: str, route: str, status_class: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(method, route, f"{status_class}xx"), _DURATION.labels(method, route)
