"""Pages about latency: overview, feature, and the charts that a feature page fetches."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from budgets import charts
from budgets.annotation_forms import AnnotationForm
from budgets.burn_histories import get_burn_history
from budgets.burn_rates import tiers_for
from budgets.charts import Chart
from budgets.contexts import feature as feature_context
from budgets.contexts import overview as overview_context
from budgets.contexts.frame import View, frame_of, page_url, view_of, visible_features
from budgets.contexts.marks import change_markers
from budgets.contexts.parts import milestone_name
from budgets.distributions import get_distribution
from budgets.errors import Refusal
from budgets.forecasts import get_forecasts
from budgets.limits import budgets_in_force
from budgets.models import Feature, Milestone, Series
from budgets.pages import PageRequest, answer_chart, answer_page, own_address
from budgets.roles import Role, has_role, teams_where
from budgets.sparklines import hourly_counts
from budgets.status import get_feature_status, get_overview, get_timeseries, range_bounds
from budgets.tail_paths import get_tail_path
from budgets.views.viewing import with_view


@login_required
@require_safe
@with_view
def overview(request: PageRequest, *, view: View) -> HttpResponse:
    """Every feature that the person may see, worst first."""
    features = visible_features(request.user)
    statuses = get_overview(
        features,
        environment=view.environment,
        now=view.now,
        at=view.as_of,
        window=view.length,
        with_component_percentiles=False,
    )
    page = overview_context.overview(
        features,
        statuses,
        hourly_counts(features, environment=view.environment, now=view.as_of),
        get_forecasts(statuses, environment=view.environment, at=view.as_of),
        view=view,
        chosen_state=request.GET.get("state", ""),
    )
    # Without a feature there is no range to choose.
    frame = frame_of(view, features, every_s=3 if len(features) <= 50 else 10) if features else None
    return answer_page(
        request,
        page="budgets/overview.html",
        parts="budgets/overview_parts.html",
        context={
            "overview": page,
            "frame": frame,
            "can_create": teams_where(request.user, Role.EDITOR).exists(),
            "teams": () if features else teams_where(request.user, Role.VIEWER),
            "address": own_address(request),
            "report_teams": sorted({one.team for one in features}, key=lambda team: (team.name, team.slug)),
            "has_archived": Feature.objects.visible_to(request.user).exclude(archived_at=None).exists(),
            "section": "features",
            "crumbs": [("Overview", "")],
        },
    )


@login_required
@require_safe
@with_view
def feature(request: PageRequest, slug: str, *, view: View) -> HttpResponse:
    """One feature: what was promised, what was kept, and where the time goes."""
    found = _visible_feature(request, slug)
    statuses = get_overview(
        [found], environment=view.environment, now=view.now, at=view.as_of, window=view.length
    )[found.pk]
    milestone = feature_context.chosen_milestone(statuses, request.GET.get("milestone"))
    page = feature_context.feature_page(
        found, statuses, statuses[milestone] if milestone else None, view=view
    )
    frame = frame_of(view, [found])
    back = page_url("overview", **view.query)
    return answer_page(
        request,
        page="budgets/feature.html",
        parts="budgets/feature_parts.html",
        context={
            "page": page,
            "frame": frame,
            "is_waiting": not Series.objects.filter(feature=found).exists(),
            "can_edit": has_role(request.user, found.team, Role.EDITOR),
            "annotation_form": AnnotationForm(initial={"environment": view.environment}),
            "section": "features",
            "crumbs": [("Overview", back), (found.name, "")],
        },
    )


@login_required
@require_safe
@gzip_page
def feature_chart(request: PageRequest, slug: str, name: str, form: str) -> HttpResponse:
    """A chart of the feature page, as JSON for the page or as CSV for a person."""
    found = _visible_feature(request, slug)
    draw = _CHARTS.get(name)
    if draw is None:
        raise Http404(f"there is no chart {name!r}")
    try:
        chart = draw(request, found, view_of(request.GET, timezone.now()))
    except Refusal as refusal:
        return JsonResponse(refusal.document(), status=refusal.status)
    return answer_chart(request, chart, form=form, name=f"{slug}-{name}")


def _visible_feature(request: PageRequest, slug: str) -> Feature:
    return get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)


def _allocation(request: PageRequest, found: Feature, view: View) -> Chart:
    return charts.allocation_against_observed(
        get_feature_status(
            found,
            milestone=_milestone(request),
            environment=view.environment,
            window=view.length,
            at=view.as_of,
            now=view.now,
        )
    )


def _tail_path(request: PageRequest, found: Feature, view: View) -> Chart:
    milestone = _milestone(request)
    start, end = feature_context.shown_range(found, milestone, view)
    return charts.budget_over_tail_path(
        budgets_in_force([found.pk], view.as_of).get((found.pk, milestone)),
        get_tail_path(
            found, milestone=milestone, environment=view.environment, start=start, end=end, now=view.now
        ),
        milestone_name=milestone_name(milestone),
    )


def _percentiles(request: PageRequest, found: Feature, view: View) -> Chart:
    target, milestone = request.GET.get("target", ""), _milestone(request)
    start, end = feature_context.shown_range(found, milestone, view)
    kind, _, name = target.partition(":")
    is_milestone = kind == "milestone"
    return charts.percentile_lines(
        get_timeseries(
            found, target=target, environment=view.environment, start=start, end=end, now=view.now
        ),
        subject=milestone_name(name) if is_milestone else name,
        limit_word="latency budget" if is_milestone else "allocation",
        markers=change_markers(
            found, name if is_milestone else milestone, environment=view.environment, start=start, end=end
        ),
        size="large" if is_milestone else "small",
    )


def _heatmap(request: PageRequest, found: Feature, view: View) -> Chart:
    milestone = _milestone(request)
    start, end = feature_context.shown_range(found, milestone, view)
    return charts.duration_heatmap(
        get_distribution(
            found,
            target=f"milestone:{milestone}",
            environment=view.environment,
            start=start,
            end=end,
            now=view.now,
        ),
        subject=milestone_name(milestone),
        limit_word="latency budget",
        markers=change_markers(found, milestone, environment=view.environment, start=start, end=end),
    )


def _burn_down(request: PageRequest, found: Feature, view: View) -> Chart:
    milestone = _milestone(request)
    budget = feature_context.budget_in_force(found, milestone, view)
    start, end = range_bounds(window=None, days=budget.window_days, at=view.as_of, now=view.now)
    series = get_timeseries(
        found,
        target=f"milestone:{milestone}",
        environment=view.environment,
        start=start,
        end=end,
        now=view.now,
    )
    return charts.burn_down(
        series,
        objective=budget.objective,
        window_end=end,
        forecast=feature_context.forecast_of(found, budget, view),
        markers=change_markers(found, milestone, environment=view.environment, start=start, end=end),
    )


def _burn_rate(request: PageRequest, found: Feature, view: View) -> Chart:
    milestone = _milestone(request)
    budget = feature_context.budget_in_force(found, milestone, view)
    asked = request.GET.get("tier", "")
    tier = next((one for one in tiers_for(budget.objective, budget.window_days) if one.long == asked), None)
    if tier is None:
        raise Http404(f"there is no tier {asked!r:.100}")
    history = get_burn_history(
        found,
        milestone=milestone,
        environment=view.environment,
        objective=budget.objective,
        tier=tier,
        at=view.as_of,
        now=view.now,
    )
    since, until = (history.at[0], history.at[-1]) if history.at else (view.as_of, view.as_of)
    return charts.burn_rate_lines(
        history,
        markers=change_markers(found, milestone, environment=view.environment, start=since, end=until),
    )


_CHARTS = {
    "allocation": _allocation,
    "tail-path": _tail_path,
    "heatmap": _heatmap,
    "percentiles": _percentiles,
    "burn-down": _burn_down,
    "burn-rate": _burn_rate,
}


def _milestone(request: PageRequest) -> str:
    asked = request.GET.get("milestone", "")
    if asked not in Milestone.values:
        raise Refusal(
            "unknown_milestone",
            f"milestone must be one of {', '.join(Milestone.values)}, got {asked!r:.100}.",
            fields={"milestone": [f"Expected one of {', '.join(Milestone.values)}."]},
        )
    return asked
