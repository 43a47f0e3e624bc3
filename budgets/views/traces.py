"""The page of one trace, and its spans as CSV."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from budgets.contexts import traces as contexts
from budgets.contexts.frame import page_url
from budgets.instants import read_instant
from budgets.models import Feature, Milestone
from budgets.pages import PageRequest, answer_csv, private
from budgets.traces import Trace, read_trace, trace_id_of


@login_required
@require_safe
def trace(request: PageRequest, slug: str, trace_id: str, form: str = "html") -> HttpResponse:
    """One request: how long it took against its latency budgets, and what it waited for; as "csv" its spans."""
    now = timezone.now()
    visible = list(Feature.objects.visible_to(request.user).select_related("team").order_by("name"))
    feature = next((one for one in visible if one.slug == slug), None)
    if feature is None:
        raise Http404(f"there is no feature {slug!r} for this person")
    known = trace_id_of(trace_id)
    if known is not None and known != trace_id:
        name = "trace-csv" if form == "csv" else "trace"
        query = request.GET.urlencode()
        return redirect(reverse(name, args=[slug, known]) + (f"?{query}" if query else ""))
    milestone = request.GET.get("milestone")
    milestone = milestone if milestone in Milestone.values else None
    found = (
        read_trace(
            feature,
            known,
            visible=visible,
            milestone=milestone,
            number=_number(request.GET.get("request", "")),
            ended_at=_instant(request.GET.get("ended", "")),
        )
        if known is not None
        else []
    )
    crumbs = [("Overview", page_url("overview")), (feature.name, page_url("feature", slug))]
    if not isinstance(found, Trace):
        missing = contexts.missing_trace(feature, trace_id, known, found, now=now)
        context = {"missing": missing, "section": "features", "crumbs": [*crumbs, ("Trace", "")]}
        return private(render(request, "budgets/trace_missing.html", context, status=404))
    if form == "csv":
        records = contexts.span_records(found.request)
        return answer_csv(contexts.CSV_FIELDS, records, name=f"trace-{found.trace_id}")
    page = contexts.trace_page(feature, found, milestone=milestone, now=now)
    crumbs[1] = (feature.name, page.back_url)
    context = {
        "page": page,
        "as_of": now,
        "section": "features",
        "crumbs": [*crumbs, (f"Trace {found.trace_id[:8]}…", "")],
    }
    return private(render(request, "budgets/trace.html", context))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _instant(text: str) -> datetime | None:
    try:
        return read_instant(text)
    except ValueError:
        return None
