"""A team's weekly and monthly report: its page, its CSV, and who gets it by mail."""

from __future__ import annotations

import csv
import io

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from alerts.contexts import reports as contexts
from alerts.reports import report
from budgets.contexts.frame import environments_of
from budgets.contexts.team import team_context, team_frame
from budgets.models import Feature
from budgets.pages import PageRequest, csv_cell
from budgets.roles import Role, has_role
from budgets.zones import zone_names

TAB = "team-report"


@login_required
@require_safe
def team_report(request: PageRequest, slug: str) -> HttpResponse:
    """The report of a week or a month. An address that does not say all of it leads to the one that does."""
    frame, now = team_frame(request.user, slug, TAB), timezone.now()
    try:
        asked = contexts.read_address(request.GET, team=frame.team, now=now)
    except ValueError as error:
        page = team_context(frame, TAB, trouble=str(error))
        return render(request, "reports/unreadable.html", page, status=400)
    if not asked.is_whole:
        return redirect(asked.url("team-report", frame.team))
    found = report(team=frame.team, period=asked.period, environment=asked.environment, now=now)
    features = Feature.objects.filter(team=frame.team)
    page = team_context(
        frame,
        TAB,
        page=contexts.report_page(found, asked),
        environments=environments_of(features, asked.environment),
        zones=zone_names(),
        can_create=has_role(request.user, frame.team, Role.EDITOR),
        now=now,
    )
    return render(request, "reports/report.html", page)


@login_required
@require_safe
def team_report_csv(request: PageRequest, slug: str) -> HttpResponse:
    """The report's table, a row a promise; the same query as the page's."""
    frame, now = team_frame(request.user, slug, TAB), timezone.now()
    try:
        asked = contexts.read_address(request.GET, team=frame.team, now=now)
    except ValueError as error:
        page = team_context(frame, TAB, trouble=str(error))
        return render(request, "reports/unreadable.html", page, status=400)
    found = report(team=frame.team, period=asked.period, environment=asked.environment, now=now)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(contexts.CSV_FIELDS)
    writer.writerows([csv_cell(value) for value in record] for record in contexts.records(found))
    response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    name = f"{slug}-{asked.period.kind}-{asked.period.first_day.isoformat()}"
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    patch_cache_control(response, private=True, no_cache=True)
    return response
