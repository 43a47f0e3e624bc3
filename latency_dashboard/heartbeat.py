"""Shows that a worker or beat is alive: the time of a file, HEARTBEAT_FILE, which latency_dashboard/probe.py reads.

It costs neither a connection nor a reply that would need a result backend, and it tells of this very process,
where the age of a sweep in the database tells of all workers together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import bootsteps
from celery.beat import PersistentScheduler
from django.conf import settings

BEAT_S = 5.0


def beat() -> None:
    """Renews the file's time, where there is one to renew."""
    if settings.HEARTBEAT_FILE:
        Path(settings.HEARTBEAT_FILE).touch()


class Heartbeat(bootsteps.StartStopStep):
    """Beats as long as the worker's loop turns and receives tasks; while Redis is away it does not."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        beat()
        self._timer = parent.timer.call_repeatedly(BEAT_S, beat)

    def stop(self, parent: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BeatingScheduler(PersistentScheduler):
    """Celery's scheduler, which beats with every turn: at least every second, for sweeps come that often."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        wait_s = super().tick(*args, **kwargs)
        beat()
        return min(wait_s, BEAT_S)
