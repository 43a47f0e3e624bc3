"""What slow requests have in common, and the slowest of them: parts that the feature page fetches, and a page of both."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from budgets import formats
from budgets.contexts.feature import shown_range
from budgets.contexts.frame import View, frame_of, page_url
from budgets.contexts.parts import milestone_name
from budgets.contexts.slow_requests import common_part, slowest_part
from budgets.models import Feature, Milestone
from budgets.pages import PageRequest, answer_page
from budgets.slow_requests import compare_requests, slowest_requests
from budgets.views.viewing import with_view

# What htmx asks for one at a time, so that neither waits for the other.
PARTS = {
    "common": "budgets/slow_requests/common.html",
    "slowest": "budgets/slow_requests/slowest.html",
}


@login_required
@require_safe
@with_view
def slow_requests(request: PageRequest, slug: str, *, view: View) -> HttpResponse:
    """Of a milestone's requests in the shown range. `part` is one of PARTS."""
    feature = get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)
    asked = request.GET.get("milestone", "")
    milestone = asked if asked in Milestone.values else _first_milestone(feature)
    start, end = shown_range(feature, milestone, view)
    target = f"milestone:{milestone}"
    asked_for: dict[str, Any] = {
        "target": target,
        "environment": view.environment,
        "start": start,
        "end": end,
        "now": view.now,
    }
    wanted = request.GET.get("part", "")
    part = wanted if request.htmx and wanted in PARTS else ""
    context: dict[str, Any] = {"feature": feature, "milestone_name": milestone_name(milestone)}
    if part in ("", "common"):
        compared = compare_requests(feature, **asked_for)
        context["common"] = common_part(compared, target=target, asked_from=start, now=view.now)
    if part in ("", "slowest"):
        slowest = slowest_requests(feature, **asked_for)
        context["slowest"] = slowest_part(feature, slowest, target=target, asked_from=start, now=view.now)
    back = page_url("feature", slug, **view.query, milestone=milestone)
    return answer_page(
        request,
        page="budgets/slow_requests.html",
        parts=PARTS[part or "common"],
        context={
            **context,
            "range_words": formats.between(start, end),
            "back_url": back,
            "frame": frame_of(view, [feature]),
            "section": "features",
            "crumbs": [
                ("Overview", page_url("overview", **view.query)),
                (feature.name, back),
                ("Slow requests", ""),
            ],
        },
    )


def _first_milestone(feature: Feature) -> str:
    """The first that the feature ever promised."""
    declared = set(feature.latency_budgets.values_list("milestone", flat=True))
    return next((name for name in Milestone.values if name in declared), str(Milestone.COMPLETE))
