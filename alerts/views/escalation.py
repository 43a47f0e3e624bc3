"""Pages of who is told when: on-call schedules and escalation policies."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.contexts import escalation as contexts
from alerts.matcher_forms import suggestions
from alerts.models import EscalationPolicy, Schedule
from alerts.overrides import add_override, remove_override
from alerts.policies import delete_policy, move_policy, save_policy
from alerts.policy_forms import PolicyForm
from alerts.schedule_forms import OverrideForm, ScheduleForm
from alerts.schedules import delete_schedule, save_schedule
from alerts.views.frames import ask_to_delete, below, editors_frame
from budgets.contexts.team import TeamFrame, team_context, team_frame
from budgets.errors import Refusal
from budgets.pages import PageRequest

SCHEDULES = "team-schedules"
POLICIES = "team-policies"
_SCHEDULING = "change its on-call schedules"
_ESCALATING = "change its escalation policies"


@login_required
@require_safe
def schedule_list(request: PageRequest, slug: str) -> HttpResponse:
    """The team's schedules, and who is on call now."""
    frame = team_frame(request.user, slug, SCHEDULES)
    lines = contexts.schedule_lines(frame.team, timezone.now())
    return render(request, "alerts/schedules.html", team_context(frame, SCHEDULES, lines=lines))


@login_required
@require_safe
def schedule(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """One schedule: who is on call now and in the coming weeks, and its overrides."""
    frame = team_frame(request.user, slug, SCHEDULES)
    return _schedule_page(request, frame, get_object_or_404(Schedule, team=frame.team, pk=pk))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create_schedule(request: PageRequest, slug: str) -> HttpResponse:
    """A new schedule."""
    return _edit_schedule(request, slug, None)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit_schedule(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Changes a schedule's rotation and hours."""
    frame = editors_frame(request, slug, SCHEDULES, _SCHEDULING)
    return _edit_schedule(request, slug, get_object_or_404(Schedule, team=frame.team, pk=pk))


def _edit_schedule(request: PageRequest, slug: str, found: Schedule | None) -> HttpResponse:
    frame = editors_frame(request, slug, SCHEDULES, _SCHEDULING)
    now = timezone.now()
    initial = ScheduleForm.initial_of(found) if found else {"starts_on": now.date()}
    form = ScheduleForm(request.POST or None, initial=initial, team=frame.team, is_new=found is None)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_schedule(
                team=frame.team,
                name=found.name if found else form.cleaned_data["name"],
                document=form.document(),
                actor=request.user.email,
                now=now,
                is_new=found is None,
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, f"Saved {saved.schedule.name}.")
            return redirect("team-schedule", slug, saved.schedule.pk)
    title = f"Edit {found.name}" if found else "New schedule"
    page = below(frame, SCHEDULES, title, form=form, schedule=found, suggestions=suggestions(frame.team))
    return render(request, "alerts/schedule_edit.html", page, status=400 if form.errors else 200)


@login_required
@require_POST
def override(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Adds an override."""
    frame = editors_frame(request, slug, SCHEDULES, _SCHEDULING)
    found = get_object_or_404(Schedule, team=frame.team, pk=pk)
    form = OverrideForm(request.POST, schedule=found)
    if form.is_valid():
        try:
            add_override(
                schedule_id=found.pk,
                email=form.email,
                starts_at=form.cleaned_data["starts_at"],
                ends_at=form.cleaned_data["ends_at"],
                actor=request.user.email,
                now=timezone.now(),
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, "Saved the override.")
            return redirect("team-schedule", slug, pk)
    return _schedule_page(request, frame, found, form)


@login_required
@require_POST
def take_back(request: PageRequest, slug: str, pk: int, override_id: int) -> HttpResponse:
    """Takes an override back."""
    frame = editors_frame(request, slug, SCHEDULES, _SCHEDULING)
    found = get_object_or_404(Schedule, team=frame.team, pk=pk)
    try:
        remove_override(
            schedule_id=found.pk, override_id=override_id, actor=request.user.email, now=timezone.now()
        )
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, "Taken back.")
    return redirect("team-schedule", slug, pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove_schedule(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and deletes, unless an escalation policy names it."""
    frame = editors_frame(request, slug, SCHEDULES, _SCHEDULING)
    found = get_object_or_404(Schedule, team=frame.team, pk=pk)
    if request.method == "POST":
        try:
            delete_schedule(team=frame.team, name=found.name, actor=request.user.email, now=timezone.now())
        except Refusal as refusal:
            messages.error(request, refusal.message)
            return redirect("team-schedule", slug, pk)
        messages.success(request, f"Deleted {found.name}.")
        return redirect(SCHEDULES, slug)
    return ask_to_delete(
        request,
        frame,
        SCHEDULES,
        what="schedule",
        name=found.name,
        text="Nobody is found on call by it any more, and its overrides are gone. This cannot be undone.",
    )


def _schedule_page(
    request: PageRequest, frame: TeamFrame, found: Schedule, form: OverrideForm | None = None
) -> HttpResponse:
    now = timezone.now()
    if form is None and frame.is_editor:
        form = OverrideForm(schedule=found)
    page = below(
        frame,
        SCHEDULES,
        found.name,
        page=contexts.schedule_page(found, now=now),
        form=form,
        now=now,
    )
    return render(
        request, "alerts/schedule.html", page, status=400 if form is not None and form.errors else 200
    )


@login_required
@require_safe
def policy_list(request: PageRequest, slug: str) -> HttpResponse:
    """The team's escalation policies in the order in which they are asked."""
    frame = team_frame(request.user, slug, POLICIES)
    lines = contexts.policy_lines(frame.team)
    return render(request, "alerts/policies.html", team_context(frame, POLICIES, lines=lines))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create_policy(request: PageRequest, slug: str) -> HttpResponse:
    """A new policy, asked last."""
    return _edit_policy(request, slug, None)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit_policy(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Changes a policy."""
    frame = editors_frame(request, slug, POLICIES, _ESCALATING)
    return _edit_policy(request, slug, get_object_or_404(EscalationPolicy, team=frame.team, pk=pk))


def _edit_policy(request: PageRequest, slug: str, found: EscalationPolicy | None) -> HttpResponse:
    frame = editors_frame(request, slug, POLICIES, _ESCALATING)
    initial = PolicyForm.initial_of(found) if found else {"matchers": [], "steps": []}
    form = PolicyForm(request.POST or None, initial=initial, team=frame.team, is_new=found is None)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_policy(
                team=frame.team,
                name=found.name if found else form.cleaned_data["name"],
                document=form.document(found),
                actor=request.user.email,
                now=timezone.now(),
                is_new=found is None,
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(
                request,
                f"Saved {saved.policy.name}. Incidents that are open keep the policy they opened with.",
            )
            return redirect(POLICIES, slug)
    title = f"Edit {found.name}" if found else "New escalation policy"
    page = below(frame, POLICIES, title, form=form, policy=found, suggestions=suggestions(frame.team))
    return render(request, "alerts/policy.html", page, status=400 if form.errors else 200)


@login_required
@require_POST
def move(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Has a policy asked before or after its neighbour."""
    frame = editors_frame(request, slug, POLICIES, _ESCALATING)
    found = get_object_or_404(EscalationPolicy, team=frame.team, pk=pk)
    is_up = request.POST.get("to") == "up"
    move_policy(team=frame.team, name=found.name, is_up=is_up, actor=request.user.email, now=timezone.now())
    return redirect(POLICIES, slug)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove_policy(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and deletes."""
    frame = editors_frame(request, slug, POLICIES, _ESCALATING)
    found = get_object_or_404(EscalationPolicy, team=frame.team, pk=pk)
    if request.method == "POST":
        delete_policy(team=frame.team, name=found.name, actor=request.user.email, now=timezone.now())
        messages.success(request, f"Deleted {found.name}.")
        return redirect(POLICIES, slug)
    return ask_to_delete(
        request,
        frame,
        POLICIES,
        what="policy",
        name=found.name,
        text="Incidents that are open keep it; new ones go by the next policy that fits. This cannot be undone.",
    )
