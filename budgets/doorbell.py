"""Tells a worker that there is something to do. Only a hint: it may be lost, and a sweep finds the work anyway."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from celery import current_app
from django.conf import settings
from redis import Redis

from . import request_ids

log = logging.getLogger(__name__)

_RUNG = "latency_dashboard:roll_up_rung"
# Long enough for a busy worker to get to it; should the task be lost, the next POST after this rings again.
_RUNG_FOR_S = 2
# After a failure this process leaves the bell alone, so that no request waits for a Redis that is away.
_SILENT_FOR_S = 5.0
_silent_until = 0.0
# At least so long lies between two rings for those who do not wait: of a hundred POSTs a second few ask Redis.
_APART_S = 0.05
_ringer = ThreadPoolExecutor(1, thread_name_prefix="doorbell")
_is_asked = False


def ring_soon() -> None:
    """Rings within a moment and does not keep the caller: once for all who ask meanwhile. Never raises."""
    global _is_asked
    if not _is_asked:
        _is_asked = True
        with suppress(RuntimeError):  # this process is about to end; a sweep finds the work
            _ringer.submit(_ring_for_all)


def _ring_for_all() -> None:
    global _is_asked
    _is_asked = False  # before it is rung: who asks from here on may have stored something since
    ring()
    time.sleep(_APART_S)


def ring() -> None:
    """Asks for a roll-up, unless one is asked for already. Never raises, and never waits long."""
    if _is_silent():
        return
    try:
        if _redis(str(settings.CACHES["default"]["LOCATION"])).set(
            _RUNG, 1, nx=True, px=int(_RUNG_FOR_S * 1000)
        ):
            current_app.send_task("budgets.tasks.roll_up", retry=False, expires=10)
    except Exception as error:
        _be_silent(error)


def heard() -> None:
    """Lets the next POST ring again: called before batches are claimed, so that none slips in between."""
    try:
        _redis(str(settings.CACHES["default"]["LOCATION"])).delete(_RUNG)
    except Exception as error:
        _be_silent(error)


def send(task: str, *args: object) -> None:
    """Sends a task by name, and with it for which requests. Never raises, and never waits long.

    Should it be lost, a sweep does the same later.
    """
    if _is_silent():
        return
    try:
        # This gives up after half a second; a publish to a Redis that hangs would wait for as long as it does.
        _redis(str(settings.CACHES["default"]["LOCATION"])).ping()
        headers = {"request_ids": list(request_ids.current())}
        current_app.send_task(task, args=args, headers=headers, retry=False, expires=30)
    except Exception as error:
        _be_silent(error)


@cache
def _redis(url: str) -> Redis:
    """A client that is kept: Django's cache makes a new one for every call."""
    return Redis.from_url(url, **settings.REDIS_OPTIONS)


def _is_silent() -> bool:
    return time.monotonic() < _silent_until


def _be_silent(error: Exception) -> None:
    global _silent_until
    _silent_until = time.monotonic() + _SILENT_FOR_S
    log.warning("Redis cannot be reached (%s); sweeps do the work until it can.", error)
