"""Every address of the product."""

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.http import require_safe

from .api import api
from .api_reference import openapi_json, reference
from .health import healthz, readyz
from .metrics import metrics

urlpatterns = [
    path("healthz", require_safe(healthz), name="healthz"),
    path("readyz", require_safe(readyz), name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/openapi.json", openapi_json, name="openapi"),
    path("api/v1/docs", reference, name="api-reference"),
    path("api/v1/", api.urls),
    path("admin/", admin.site.urls),
    path("", include("budgets.urls")),
    path("", include("alerts.urls")),
]

handler400 = "latency_dashboard.api_errors.bad_request"
handler403 = "latency_dashboard.api_errors.permission_denied"
handler404 = "latency_dashboard.api_errors.page_not_found"
handler500 = "latency_dashboard.api_errors.server_error"
