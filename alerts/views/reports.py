"""A team's weekly and monthly report: its page, its CSV, and who gets it by mail."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts import report_subscriptions
from alerts.contexts import reports as contexts
from alerts.outbound import reaches_people
from alerts.report_periods import Kind
from alerts.reports import report
from alerts.wall_clocks import in_zone
from budgets.contexts.frame import asked_environment, environments_of, with_query
from budgets.contexts.team import team_context, team_frame
from budgets.errors import Refusal
from budgets.models import Feature, Membership, Team, User
from budgets.pages import PageRequest, answer_csv
from budgets.roles import Role, has_role
from budgets.zones import zone_names

TAB = "team-report"


@login_required
@require_safe
def team_report(request: PageRequest, slug: str, form: str = "html") -> HttpResponse:
    """The report of a week or a month, by an address that says all of it; as "csv" its table, a row a promise."""
    frame, now = team_frame(request.user, slug, TAB), timezone.now()
    try:
        asked = contexts.read_address(request.GET, team=frame.team, now=now)
    except ValueError as error:
        page = team_context(frame, TAB, trouble=str(error))
        return render(request, "reports/unreadable.html", page, status=400)
    if form == "html" and not asked.is_whole:
        return redirect(asked.url("team-report", frame.team))
    period = asked.period
    found = report(team=frame.team, period=period, environment=asked.environment, now=now)
    if form == "csv":
        name = f"{slug}-{period.kind}-{period.first_day.isoformat()}"
        return answer_csv(contexts.CSV_FIELDS, contexts.records(found), name=name)
    features = Feature.objects.filter(team=frame.team)
    page = team_context(
        frame,
        TAB,
        page=contexts.report_page(found, asked),
        environments=environments_of(features, asked.environment),
        zones=zone_names(),
        lines=_subscriptions(request, frame.team),
        has_mail=reaches_people(),
        can_create=has_role(request.user, frame.team, Role.EDITOR),
        now=now,
    )
    return render(request, "reports/report.html", page)


@login_required
@require_POST
def subscription(request: PageRequest, slug: str) -> HttpResponse:
    """Has the report mailed to the person who asks, or no more."""
    team = team_frame(request.user, slug, TAB).team
    period = request.POST.get("period", "")
    if request.POST.get("action") == "stop":
        unsubscribed = report_subscriptions.unsubscribe(
            user_id=request.user.pk, team_id=team.pk, period=period, now=timezone.now()
        )
        if unsubscribed:
            messages.success(request, f"You get no more {Kind(period).adjective} reports of {team.name}.")
        else:
            messages.info(request, "Nothing was changed: you did not get it.")
    else:
        try:
            saved = report_subscriptions.subscribe(
                user=request.user,
                team=team,
                period=period,
                environment=asked_environment(request.POST.get("environment")),
                time_zone=request.POST.get("time_zone", "").strip(),
                now=timezone.now(),
            )
        except Refusal as refusal:
            messages.error(request, refusal.message)
        else:
            next_at = in_zone(saved.due_at, saved.time_zone)
            messages.success(request, f"The next {Kind(period).adjective} report is mailed on {next_at}.")
    query = {name: request.GET.get(name) for name in ("period", "start", "environment", "zone")}
    return redirect(with_query(reverse("team-report", args=[slug]), **query))


@csrf_exempt  # a mail program has no session: the signed token says who asks (RFC 8058)
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """The way out that stands in every mail, without logging in. Only a POST goes it."""
    address = report_subscriptions.read_token(token)
    if address is None:
        return render(request, "reports/unsubscribe.html", {"case": "unknown"}, status=404)
    case = "asked"
    if request.method == "POST":
        report_subscriptions.unsubscribe(
            user_id=address.user_id, team_id=address.team_id, period=address.period, now=timezone.now()
        )
        case = "done"
    team = Team.objects.filter(pk=address.team_id).first()
    person = User.objects.filter(pk=address.user_id).first()
    page = {"case": case, "team": team, "person": person, "adjective": Kind(address.period).adjective}
    response = render(request, "reports/unsubscribe.html", page)
    add_never_cache_headers(response)
    return response


def _subscriptions(request: PageRequest, team: Team) -> list[contexts.SubscriptionLine]:
    membership = Membership.objects.filter(user=request.user, team=team).first()
    return contexts.subscription_lines(membership) if membership is not None else []
