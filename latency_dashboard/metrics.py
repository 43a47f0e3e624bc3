"""/metrics: the service itself in Prometheus' text format.

What happens in web processes is counted there (meters), in files that all web processes of a machine share. What
workers do is read from the database at the time of asking, so it is the same whichever web process answers, and
nothing of it is lost with a worker. That is read at most once in METRICS_CACHE_SECONDS by a web process, however many
ask. Features are named; no team, no channel and no incident is.
"""

from __future__ import annotations

import hmac
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock

from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from alerts.models import DeliveryAttempt, Notification
from budgets.models import Batch, Sweep
from budgets.partitions import RETENTION_SETTINGS, existing_days

from .slo_metrics import objectives

# When a counter was made tells nothing, and would double what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

# As many of the latest batches tell how long a roll-up takes to come.
_LATEST_BATCHES = 1000
_Outcome = DeliveryAttempt.Outcome


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics, for whoever shows METRICS_TOKEN as a bearer token; there is nothing here where none is set."""
    if not settings.METRICS_TOKEN:
        return HttpResponse("There is nothing at this address.\n", "text/plain", 404)
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(shown.encode(), settings.METRICS_TOKEN.encode()):
        return HttpResponse("Show METRICS_TOKEN as a bearer token.\n", "text/plain", 401, headers=_CHALLENGE)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    registry = CollectorRegistry()
    for counted in _counted():
        registry.register(counted)
    registry.register(_Read(_state(timezone.now())))
    return HttpResponse(encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"})


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class _Read(Collector):
    """Metrics that have been read."""

    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


_reading = Lock()
_read_last: tuple[float, list[Metric]] | None = None


def _state(now: datetime) -> list[Metric]:
    """How the service stands; as it was told last, where that was not longer ago than METRICS_CACHE_SECONDS."""
    global _read_last
    with _reading:
        if _read_last is None or time.monotonic() - _read_last[0] >= settings.METRICS_CACHE_SECONDS:
            _read_last = (time.monotonic(), list(ServiceState(now=now).collect()))
        return _read_last[1]


def _counted() -> list[Collector]:
    """What the web processes of this machine have counted; in a process that is no web server, what it has."""
    if multiprocess_folder := _multiprocess_folder():
        return [multiprocess.MultiProcessCollector(None, multiprocess_folder)]  # type: ignore[no-untyped-call]
    return [REGISTRY]


def _multiprocess_folder() -> str:
    """The folder that prometheus_client counts in, where wsgi.py has told it to."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")


class ServiceState(Collector):
    """How the service stands, by the database and Redis. Where they are away, that is what it says."""

    def __init__(self, *, now: datetime) -> None:
        self._now = now

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "latency_dashboard_build",
            "What runs here.",
            {"version": settings.VERSION, "python": platform.python_version()},
        )
        yield _gauge("broker_up", "1 where Redis answers.", float(self._is_broker_up()))
        try:
            found = [
                *self._batches(),
                *self._sweeps(),
                *self._messages(),
                self._partitions(),
                *objectives(self._now),
            ]
        except DatabaseError:
            yield _gauge("database_up", "1 where PostgreSQL answers.", 0.0)
            return
        yield _gauge("database_up", "1 where PostgreSQL answers.", 1.0)
        yield from found

    def _is_broker_up(self) -> bool:
        try:
            cache.get("metrics")
        except (RedisError, OSError):
            return False
        return True

    def _batches(self) -> Iterable[Metric]:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT count(*), coalesce(sum(measurement_count), 0), min(received_at)
                FROM budgets_batch WHERE state = 'pending'
                """
            )
            batches, measurements, oldest = cursor.fetchone()
            cursor.execute(
                """
                SELECT percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY delay_s)
                FROM (SELECT extract(epoch FROM rolled_up_at - received_at)::float8 AS delay_s
                      FROM (SELECT * FROM budgets_batch ORDER BY id DESC LIMIT %s) AS latest
                      WHERE state = 'rolled_up') AS delays
                """,
                [_LATEST_BATCHES],
            )
            [delays] = cursor.fetchone()
        yield _gauge("pending_batches", "Batches that wait to be rolled up.", batches)
        yield _gauge("pending_measurements", "Measurements that wait to be rolled up.", measurements)
        yield _gauge(
            "failed_batches",
            "Batches that were set aside because they cannot be rolled up.",
            Batch.objects.filter(state=Batch.State.FAILED).count(),
        )
        yield _gauge(
            "oldest_pending_batch_age_seconds",
            "Age of the batch that has waited longest to be rolled up; 0 where none waits.",
            0.0 if oldest is None else self._age_s(oldest),
        )
        delay = GaugeMetricFamily(
            "latency_dashboard_rollup_delay_seconds",
            f"From receipt to roll-up, of the latest {_LATEST_BATCHES} batches; quantile 1 is the longest.",
            labels=["quantile"],
        )
        for quantile, value in zip(("0.5", "0.99", "1"), delays or (), strict=False):
            delay.add_metric([quantile], value)
        yield delay

    def _sweeps(self) -> Iterable[Metric]:
        age = GaugeMetricFamily(
            "latency_dashboard_sweep_age_seconds",
            "Since a sweep finished last, whichever worker did it.",
            labels=["sweep"],
        )
        for name, finished_at in Sweep.objects.order_by("name").values_list("name", "finished_at"):
            age.add_metric([name], self._age_s(finished_at))
        yield age

    def _messages(self) -> Iterable[Metric]:
        states = GaugeMetricFamily("latency_dashboard_notifications", "Messages by state.", labels=["state"])
        history = _history()
        for state in Notification.State.values:
            states.add_metric([state], history.states.get(state, 0))
        yield states
        due = Notification.objects.filter(
            state=Notification.State.PENDING, next_attempt_at__lte=self._now
        ).order_by("next_attempt_at")
        longest = due.values_list("next_attempt_at", flat=True).first()
        yield _gauge(
            "oldest_due_notification_age_seconds",
            "How long the message that is due longest has been; 0 where none is due.",
            0.0 if longest is None else self._age_s(longest),
        )
        tries = CounterMetricFamily(
            "latency_dashboard_delivery_attempts",
            "Tries to deliver a message that have ended, by kind of channel and outcome.",
            labels=["kind", "outcome"],
        )
        for kind, outcome, count in history.tries:
            tries.add_metric([kind, outcome], count)
        yield tries

    def _partitions(self) -> Metric:
        ahead = GaugeMetricFamily(
            "latency_dashboard_partitions_ahead",
            "Daily partitions of a table after today's, up to the first that is missing.",
            labels=["table"],
        )
        today = self._now.astimezone(UTC).date()
        for table in RETENTION_SETTINGS:
            days = existing_days(table)
            count = 0
            while today + timedelta(days=count + 1) in days:
                count += 1
            ahead.add_metric([table], count)
        return ahead

    def _age_s(self, instant: datetime) -> float:
        return max(0.0, (self._now - instant).total_seconds())


@dataclass(frozen=True, slots=True)
class _History:
    """All messages by state, all tries by kind of channel and outcome: tables that only grow."""

    counted_at: float
    states: dict[str, int]
    tries: list[tuple[str, str, int]]


_counted_last: _History | None = None


def _history() -> _History:
    """Counted twelve times more seldom than the rest, which reads no more than what is going on."""
    global _counted_last
    seconds = 12 * settings.METRICS_CACHE_SECONDS
    if _counted_last is None or time.monotonic() - _counted_last.counted_at >= seconds:
        ended = DeliveryAttempt.objects.exclude(outcome=_Outcome.SENDING).order_by()
        by_kind = ended.values_list("notification__channel__kind", "outcome").annotate(Count("id"))
        _counted_last = _History(
            counted_at=time.monotonic(),
            states=dict(Notification.objects.order_by().values_list("state").annotate(Count("id"))),
            tries=sorted(by_kind),
        )
    return _counted_last


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"latency_dashboard_{name}", documentation, value=value)
