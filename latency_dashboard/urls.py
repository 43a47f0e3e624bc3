"""Every address of the product."""

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from .api import api
from .api_reference import openapi_json, reference
from .health import healthz, readyz
from .metrics import metrics
from .patterns import patterns


def for_reading(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view for GET and HEAD; every other method is told 405, and not that it lacks a token against forgery."""
    return csrf_exempt(require_safe(view))


urlpatterns = [
    path("healthz", for_reading(healthz), name="healthz"),
    path("readyz", for_reading(readyz), name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/openapi.json", for_reading(openapi_json), name="openapi"),
    path("api/v1/docs", for_reading(reference), name="api-reference"),
    path("api/v1/", api.urls),
    path("patterns/", patterns, name="patterns"),
    path("admin/", admin.site.urls),
    path("", include("budgets.urls")),
    path("", include("alerts.urls")),
]

handler400 = "latency_dashboard.api_errors.bad_request"
handler403 = "latency_dashboard.api_errors.permission_denied"
handler404 = "latency_dashboard.api_errors.page_not_found"
handler500 = "latency_dashboard.api_errors.server_error"
