"""Pages about incidents: the list, one incident, and what a person does with it."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST, require_safe

from alerts import incidents
from alerts.contexts import incidents as contexts
from alerts.contexts.incident_requests import incident_requests as requests_of
from alerts.forms import NoteForm
from alerts.models import Incident
from budgets import charts
from budgets.contexts.frame import Frame
from budgets.contexts.marks import change_markers
from budgets.errors import Refusal
from budgets.pages import PageRequest, answer_chart, answer_page
from budgets.roles import Role, has_role, require_role
from budgets.status import get_timeseries


@login_required
@require_safe
def incident_list(request: PageRequest) -> HttpResponse:
    """The incidents of the person's teams, filtered by the URL."""
    now = timezone.now()
    found = contexts.incident_list(
        request.user,
        state=request.GET.get("state", ""),
        feature=request.GET.get("feature", ""),
        page=request.GET.get("page"),
        now=now,
    )
    return answer_page(
        request,
        page="alerts/incidents.html",
        parts="alerts/incidents_parts.html",
        context={
            "list": found,
            "frame": Frame(as_of=now),
            "section": "incidents",
            "crumbs": [("Incidents", "")],
        },
    )


@login_required
@require_safe
def incident(request: PageRequest, pk: int) -> HttpResponse:
    """One incident: what, how bad, since when, why, and what was done."""
    return _page(request, _visible_incident(request, pk), NoteForm())


def _page(request: PageRequest, found: Incident, note_form: NoteForm) -> HttpResponse:
    """The page of an incident; with a note that was refused, beside what is wrong with it."""
    now = timezone.now()
    page = contexts.incident_page(
        found,
        can_edit=has_role(request.user, found.feature.team, Role.EDITOR),
        is_whole=request.GET.get("log") == "all",
        now=now,
    )
    response = answer_page(
        request,
        page="alerts/incident.html",
        parts="alerts/incident_parts.html",
        context={
            "page": page,
            "note_form": note_form,
            # A refresh leaves the form alone, and the note in it, while the incident is where it was.
            "has_moved": request.GET.get("seen", "") != found.state,
            "frame": Frame(as_of=now, is_live=page.is_unresolved),
            "section": "incidents",
            "crumbs": [("Incidents", "/incidents/"), (f"Incident {found.pk}", "")],
        },
    )
    if note_form.errors:
        response.status_code = 400
    return response


@login_required
@require_safe
@gzip_page
def incident_chart(request: PageRequest, pk: int, name: str, form: str) -> HttpResponse:
    """Percentiles of what the incident is about, or of its cause, around it."""
    now = timezone.now()
    found = _visible_incident(request, pk)
    target = contexts.chart_target(found, name)
    if target is None:
        raise Http404(f"incident {pk} has no chart {name!r}")
    start, end = contexts.chart_range(found, now)
    try:
        series = get_timeseries(
            found.feature, target=target[0], environment=found.environment, start=start, end=end, now=now
        )
    except Refusal as refusal:
        return JsonResponse(refusal.document(), status=refusal.status)
    chart = charts.percentile_lines(
        series,
        subject=target[1],
        limit_word="latency budget" if target[0].startswith("milestone:") else "allocation",
        markers=[
            *contexts.chart_markers(found),
            *change_markers(
                found.feature, found.milestone, environment=found.environment, start=start, end=end
            ),
        ],
        size="large" if name == "latency" else "small",
    )
    return answer_chart(request, chart, form=form, name=f"incident-{pk}-{name}")


@login_required
@require_safe
def incident_requests(request: PageRequest, pk: int) -> HttpResponse:
    """What the slow requests of its time have in common, and the slowest of them, which the incident's page fetches."""
    now = timezone.now()
    found = _visible_incident(request, pk)
    return answer_page(
        request,
        page="alerts/incident_requests.html",
        parts="alerts/incident/requests_found.html",
        context={
            "requests": requests_of(found, now=now),
            "section": "incidents",
            "crumbs": [
                ("Incidents", "/incidents/"),
                (f"Incident {pk}", found.get_absolute_url()),
                ("Slow requests", ""),
            ],
        },
    )


@login_required
@require_POST
def acknowledge(request: PageRequest, pk: int) -> HttpResponse:
    return _act(
        request, pk, incidents.acknowledge, "Acknowledged. Reminders stop; the error budget goes on burning."
    )


@login_required
@require_POST
def resolve(request: PageRequest, pk: int) -> HttpResponse:
    return _act(
        request, pk, incidents.resolve, "Resolved. It opens again only after its rules have been quiet once."
    )


@login_required
@require_POST
def note(request: PageRequest, pk: int) -> HttpResponse:
    """Keeps a word with the incident, and leaves it where it is."""
    found = _visible_incident(request, pk)
    require_role(request.user, found.feature.team, Role.EDITOR, "act on its incidents")
    form = NoteForm(request.POST)
    if form.is_valid() and not form.cleaned_data["note"]:
        form.add_error("note", "Nothing was kept: write a note first.")
    if not form.is_valid():
        return _page(request, found, form)
    text = form.cleaned_data["note"]
    incidents.note(incident_id=pk, actor=request.user.email, text=text, now=timezone.now())
    messages.success(request, "The note is kept with the incident.")
    return redirect("incident", pk=pk)


def _act(request: PageRequest, pk: int, verb: Callable[..., Incident], done: str) -> HttpResponse:
    found = _visible_incident(request, pk)
    require_role(request.user, found.feature.team, Role.EDITOR, "act on its incidents")
    form = NoteForm(request.POST)
    if not form.is_valid():
        return _page(request, found, form)
    before = found.state
    after = verb(incident_id=pk, actor=request.user.email, note=form.cleaned_data["note"], now=timezone.now())
    if after.state == before or (before == Incident.State.RESOLVED):
        messages.info(request, f"Nothing was changed: it is already {after.get_state_display().lower()}.")
    else:
        messages.success(request, done)
    return redirect("incident", pk=pk)


def _visible_incident(request: PageRequest, pk: int) -> Incident:
    visible = Incident.objects.visible_to(request.user)
    return get_object_or_404(visible.select_related("feature__team", "component", "merged_into"), pk=pk)
