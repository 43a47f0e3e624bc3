"""One error shape for everything below /api/, also for what never reached a view of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from budgets.errors import error_document
from latency_dashboard.outages import RETRY_AFTER_S, is_outage

_CODES = {
    400: ("bad_request", "The request is malformed."),
    403: ("forbidden", "That is not allowed."),
    404: ("not_found", "There is nothing at this address."),
    503: ("database_unavailable", "The database is not available. Nothing was stored; try again."),
    405: ("method_not_allowed", "This address does not take that method."),
}
_OTHER = ("internal_error", "Something went wrong on our side. It was logged.")


class ApiErrorShape:
    """Turns what is left of error pages, such as a method that is not allowed, into the contract's JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_json = response.get("Content-Type", "").startswith("application/json")
        if response.status_code < 400 or is_json or not _is_api(request):
            return response
        shaped = _shaped(response.status_code)
        for header in ("Allow", "Retry-After", "WWW-Authenticate"):
            if header in response:
                shaped[header] = response[header]
        return shaped


def _or_page(status: int, page: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A handler of errors: JSON below /api/, where no page is made in vain, else the page."""

    def handle(request: HttpRequest, *details: Any, **named: Any) -> HttpResponse:
        return _shaped(status) if _is_api(request) else page(request, *details, **named)

    return handle


bad_request = _or_page(400, defaults.bad_request)
permission_denied = _or_page(403, defaults.permission_denied)
page_not_found = _or_page(404, defaults.page_not_found)


def server_error(request: HttpRequest) -> HttpResponse:
    """500, or 503 with a hint when to come back where it was an outage of the database that nobody caught."""
    if not is_outage(sys.exception()):
        return _or_page(500, defaults.server_error)(request)
    unavailable = partial(defaults.server_error, template_name="503.html")
    response = _or_page(503, unavailable)(request)
    response.status_code = 503
    response["Retry-After"] = RETRY_AFTER_S
    return response


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def _shaped(status: int) -> JsonResponse:
    return JsonResponse(error_document(*_CODES.get(status, _OTHER)), status=status)
