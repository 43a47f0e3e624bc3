"""/healthz: the process answers. /readyz: it can do its work."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from redis.exceptions import RedisError

from budgets.models import Batch, Sweep

# Sweeps run every few seconds; a minute without one means that no worker or no beat is there.
STALE_AFTER = timedelta(seconds=60)
SWEEPS = ("roll_up", "evaluate", "follow_up", "deliver")


def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """503 when the database or the broker is away, or one of the sweeps is stale; says which.

    Batches that were set aside are counted and no reason for it: all others are rolled up, and another process
    or a restart would change nothing about them.
    """
    checks: dict[str, str] = {}
    finished_at: dict[str, datetime] = {}
    failed_batches: int | None = None
    try:
        failed_batches = Batch.objects.filter(state=Batch.State.FAILED).count()
        finished_at = dict(Sweep.objects.filter(name__in=SWEEPS).values_list("name", "finished_at"))
        checks["database"] = "ok"
    except DatabaseError as error:
        checks["database"] = f"away: {type(error).__name__}"
    try:
        cache.get("readyz")
        checks["broker"] = "ok"
    except (RedisError, OSError) as error:
        checks["broker"] = f"away: {type(error).__name__}"
    now = timezone.now()
    ages = {name: now - finished_at[name] if name in finished_at else None for name in SWEEPS}
    checks["sweep"] = "unknown: only the database knows" if checks["database"] != "ok" else _sweeps(ages)
    is_ready = all(state == "ok" for state in checks.values())
    oldest = None if None in ages.values() else max(age for age in ages.values() if age is not None)
    document = {
        "status": "ok" if is_ready else "unavailable",
        "checks": checks,
        "last_sweep_age_s": None if oldest is None else round(oldest.total_seconds(), 1),
        "failed_batches": failed_batches,
        "version": settings.VERSION,
    }
    return JsonResponse(document, status=200 if is_ready else 503)


def _sweeps(ages: dict[str, timedelta | None]) -> str:
    """ "ok", or which sweep is stale."""
    for name, age in ages.items():
        if age is None:
            return f"stale: no {name} sweep has run yet; is a worker running?"
        if age > STALE_AFTER:
            return f"stale: the last {name} sweep finished {age.total_seconds():.0f} s ago"
    return "ok"
