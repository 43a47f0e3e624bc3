"""Wrong passwords, as django-axes counts them: for which account, until when it is locked, and when they go."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest

KEPT_FOR = timedelta(days=1)


def account_of(request: HttpRequest, credentials: dict[str, Any] | None) -> str | None:
    """The account that an attempt is counted for: an address is the same in capitals."""
    given = (credentials or {}).get("username") or request.POST.get("username")
    return str(given).strip().lower()[:254] if given else None


def locked_until(*, account: str | None, network: str | None, now: datetime) -> datetime:
    """When this account may be tried again from this network: as soon as enough failures are old enough."""
    cool_off: timedelta = settings.AXES_COOLOFF_TIME
    counted = AccessAttempt.objects.filter(
        username=account, ip_address=network, attempt_time__gt=now - cool_off
    )
    latest, failures = now, 0
    for at, count in counted.order_by("-attempt_time").values_list("attempt_time", "failures_since_start"):
        latest, failures = at, failures + count
        if failures >= settings.AXES_FAILURE_LIMIT:
            break
    return max(now, latest + cool_off)


def forget(*, now: datetime) -> int:
    """Deletes attempts that lock nobody any more; how many rows."""
    kept_for = max(KEPT_FOR, settings.AXES_COOLOFF_TIME)
    deleted, _ = AccessAttempt.objects.filter(attempt_time__lt=now - kept_for).delete()
    return int(deleted)
