"""Pages of a team: its people, and what was changed by whom."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from budgets.contexts.team import team_context, team_frame
from budgets.models import AuditEntry, Team
from budgets.pages import PageRequest

ENTRIES_A_PAGE = 50


@login_required
@require_safe
def team_list(request: PageRequest) -> HttpResponse:
    """The teams that the person belongs to."""
    teams = Team.objects.visible_to(request.user).order_by("name")
    return render(
        request, "budgets/teams.html", {"teams": teams, "section": "teams", "crumbs": [("Teams", "")]}
    )


@login_required
@require_safe
def members(request: PageRequest, slug: str) -> HttpResponse:
    """Who is in the team, and what each may do."""
    frame = team_frame(request.user, slug, "team-members")
    memberships = frame.team.memberships.select_related("user").order_by("user__email")
    context = team_context(frame, "team-members", memberships=memberships)
    return render(request, "budgets/team/members.html", context)


@login_required
@require_safe
def audit_log(request: PageRequest, slug: str) -> HttpResponse:
    """What was changed in the team, by whom, newest first."""
    frame = team_frame(request.user, slug, "team-audit")
    entries = AuditEntry.objects.filter(team=frame.team)
    page = Paginator(entries, ENTRIES_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "budgets/team/audit.html", team_context(frame, "team-audit", page=page))
