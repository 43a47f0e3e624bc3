"""How a view answers: a whole page, or only its regions to a refresh; a chart as JSON or CSV."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django_htmx.middleware import HtmxDetails

from budgets.charts import Chart
from budgets.models import User

# A spreadsheet takes a cell that begins like this for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class PageRequest(HttpRequest):
    """A request behind `login_required` and the htmx middleware."""

    user: User
    htmx: HtmxDetails


def own_address(request: HttpRequest) -> str:
    """The address of this installation as the visitor reaches it, without a slash at its end.

    PUBLIC_URL where it names the host that was asked: it knows of the TLS that a proxy ends. Else what was asked.
    """
    if request.get_host().casefold() == urlsplit(settings.PUBLIC_URL).netloc.casefold():
        return str(settings.PUBLIC_URL)
    return request.build_absolute_uri("/").rstrip("/")


def answer_page(request: PageRequest, *, page: str, parts: str, context: dict[str, Any]) -> HttpResponse:
    """The template `page`, or `parts` to htmx, which exchanges the regions that it holds."""
    is_partial = bool(request.htmx)
    response = render(request, parts if is_partial else page, {**context, "is_partial": is_partial})
    if is_partial:
        response["X-Page-Part"] = "1"
    return private(response, "HX-Request")


def answer_chart(request: HttpRequest, chart: Chart, *, form: str, name: str) -> HttpResponse:
    """The chart's document with an ETag, or 304 where the browser has it; as "csv" its records to download."""
    if form == "csv":
        return answer_csv(chart.fields, chart.records, name=name)
    body = json.dumps(chart.document(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    response = HttpResponse(body, content_type="application/json")
    response["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    private(response)
    return cast(HttpResponse, get_conditional_response(request, etag=response["ETag"], response=response))


def answer_csv(fields: Sequence[str], records: Iterable[Sequence[Any]], *, name: str) -> HttpResponse:
    """Records under their fields, to download as `name`.csv."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    writer = csv.writer(response)
    writer.writerow(fields)
    writer.writerows([csv_cell(value) for value in record] for record in records)
    return private(response)


def private(response: HttpResponse, *vary: str) -> HttpResponse:
    """May be kept by the browser alone, which asks before it uses it again."""
    patch_cache_control(response, private=True, no_cache=True)
    if vary:
        patch_vary_headers(response, vary)
    return response


def csv_cell(value: Any) -> Any:
    """A cell that every spreadsheet takes for text, whatever it begins with."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
