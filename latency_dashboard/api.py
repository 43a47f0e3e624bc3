"""The HTTP API, version 1: the routers of both apps, and how errors are answered."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from alerts.api import router as alerts_router
from alerts.escalation_api import router as escalation_router
from alerts.holds_api import router as holds_router
from alerts.rules_api import router as rules_router
from budgets.api.annotations import router as annotations_router
from budgets.api.features import router as features_router
from budgets.api.measurements import router as measurements_router
from budgets.errors import Refusal, error_document
from latency_dashboard.outages import RETRY_AFTER_S, is_outage

log = logging.getLogger(__name__)

api = NinjaAPI(
    title="Latency Dashboard", version="1", docs_url=None, openapi_url=None, urls_namespace="api-1"
)
api.add_router("", measurements_router)
api.add_router("", features_router)
api.add_router("", annotations_router)
api.add_router("", alerts_router)
api.add_router("", holds_router)
api.add_router("", escalation_router)
api.add_router("", rules_router)


def _answer(request: HttpRequest, document: dict[str, Any], status: int) -> HttpResponse:
    return api.create_response(request, document, status=status)


@api.exception_handler(Refusal)
def _refusal(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    response = _answer(request, refusal.document(), refusal.status)
    if refusal.status in (429, 503):
        response["Retry-After"] = RETRY_AFTER_S
    return response


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    message = (
        "Send a key that is valid, not expired and not revoked: Authorization: Bearer ld_<prefix>_<secret>."
    )
    response = _answer(request, error_document("unauthorized", message), 401)
    response["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    fields: dict[str, list[str]] = {}
    for problem in error.errors:
        # ("query", "step") or ("body", "document", "note"): what the caller wrote is the last part.
        names = [str(part) for part in problem["loc"][1:]] or ["body"]
        fields.setdefault(names[-1], []).append(problem["msg"])
    said = " ".join(f"{name}: {'; '.join(messages)}." for name, messages in fields.items())
    return _answer(request, error_document("invalid_request", said, fields), 400)


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    code = "malformed_json" if error.status_code == 400 else "error"
    return _answer(request, error_document(code, str(error)), error.status_code)


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return _answer(request, error_document("body_too_large", "A body has at most 1 MiB."), 413)


@api.exception_handler(UnreadablePostError)
def _cut_off(request: HttpRequest, error: UnreadablePostError) -> HttpResponse:
    return _answer(
        request, error_document("body_cut_off", "The body broke off. Nothing was stored; try again."), 400
    )


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _answer(
        request, error_document("not_found", str(error) or "There is nothing at this address."), 404
    )


@api.exception_handler(Exception)
def _unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    if is_outage(error):
        log.error("PostgreSQL is not available: %s", error)
        message = "The database is not available. Nothing was stored; try again."
        response = _answer(request, error_document("database_unavailable", message), 503)
        response["Retry-After"] = RETRY_AFTER_S
        return response
    log.exception("Unexpected error at %s", request.path, exc_info=error)
    return _answer(
        request, error_document("internal_error", "Something went wrong on our side. It was logged."), 500
    )
