"""Every request has an id, leaves one line in the log, and is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.core.signals import request_finished
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from budgets import request_ids
from latency_dashboard import meters

log = logging.getLogger("latency_dashboard.access")

# What probes ask every few seconds: counted, and a line of the log only when it goes wrong.
_PROBES = ("/healthz", "/readyz", "/metrics")
# A link that lets in whoever holds it must not stand in a log.
_SECRET_PARTS = ("token",)


class RequestLog:
    """The outermost middleware.

    1. Takes the id out of `X-Request-ID` where it is sane, else makes one, and gives it back in the answer.
    2. Has it on every line that is logged meanwhile (latency_dashboard.logs).
    3. Logs method, route, status and milliseconds, and counts them for /metrics. Never a header, a query or a body.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        request_id = request_ids.chosen_or_new(request.META.get("HTTP_X_REQUEST_ID"))
        request_ids.enter((request_id,))
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        _note(request, response.status_code, time.perf_counter() - began)
        return response


@receiver(request_finished)
def _forget(**kwargs: object) -> None:
    """Only now: what Django says about an answer comes after the last middleware."""
    request_ids.enter(())


def _note(request: HttpRequest, status: int, took_s: float) -> None:
    match = request.resolver_match
    path = request.path_info
    if match is not None:
        route = f"/{match.route}"
    else:
        route = "static" if path.startswith(settings.STATIC_URL) else "unmatched"
    method = request.method or ""
    meters.count_request(method, route, status, took_s)
    if (status < 500 and (route in _PROBES or route == "static")) or not log.isEnabledFor(logging.INFO):
        return
    if match is not None and any(part in match.kwargs for part in _SECRET_PARTS):
        path = route
    took_ms = round(took_s * 1000, 2)
    # Made by hand: finding out which line of code logs takes longer than all of the rest.
    record = logging.LogRecord(
        log.name, logging.INFO, "", 0, f"{method} {path} {status} {took_ms} ms", None, None
    )
    record.__dict__ |= {"method": method, "route": route, "status": status, "duration_ms": took_ms}
    log.handle(record)
