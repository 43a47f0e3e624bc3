"""One error shape for everything below /api/, also for what never reached a view of it."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from budgets.errors import error_document

_CODES = {
    400: ("bad_request", "The request is malformed."),
    403: ("forbidden", "That is not allowed."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
}
_OTHER = ("internal_error", "Something went wrong on our side. It was logged.")


class ApiErrorShape:
    """Turns an error page into the contract's JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_json = response.get("Content-Type", "").startswith("application/json")
        if response.status_code < 400 or is_json or not request.path_info.startswith("/api/"):
            return response
        document = error_document(*_CODES.get(response.status_code, _OTHER))
        # In place: the headers that others added stay.
        response.content = json.dumps(document).encode()
        response["Content-Type"] = "application/json"
        if "Content-Length" in response:
            response["Content-Length"] = str(len(response.content))
        return response
