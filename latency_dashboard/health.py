"""/healthz: the process answers. /readyz: it can do its work."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from redis.exceptions import RedisError

from budgets.models import Sweep

# Sweeps run every few seconds; a minute without one means that no worker or no beat is there.
STALE_AFTER = timedelta(seconds=60)


def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """503 when the database or the broker is away, or the last roll-up sweep is stale; says which."""
    checks: dict[str, str] = {}
    try:
        sweep = Sweep.objects.filter(name="roll_up").first()
        checks["database"] = "ok"
    except DatabaseError as error:
        checks["database"] = f"away: {type(error).__name__}"
        sweep = None
    try:
        cache.get("readyz")
        checks["broker"] = "ok"
    except (RedisError, OSError) as error:
        checks["broker"] = f"away: {type(error).__name__}"
    age = timezone.now() - sweep.finished_at if sweep else None
    if checks["database"] != "ok":
        checks["sweep"] = "unknown: only the database knows"
    elif age is None:
        checks["sweep"] = "stale: no roll-up sweep has run yet; is a worker running?"
    elif age > STALE_AFTER:
        checks["sweep"] = f"stale: the last roll-up sweep finished {age.total_seconds():.0f} s ago"
    else:
        checks["sweep"] = "ok"
    is_ready = all(state == "ok" for state in checks.values())
    document = {
        "status": "ok" if is_ready else "unavailable",
        "checks": checks,
        "last_sweep_age_s": None if age is None else round(age.total_seconds(), 1),
        "version": settings.VERSION,
    }
    return JsonResponse(document, status=200 if is_ready else 503)
