"""Pages of what holds notifications back: silences and maintenance windows."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.contexts import holds as contexts
from alerts.hold_forms import SilenceForm, WindowForm
from alerts.maintenance import delete_window, read_window, require_to_close, require_to_come, save_window
from alerts.matcher_forms import suggestions
from alerts.matchers import NAMES, described
from alerts.models import MaintenanceWindow, Silence
from alerts.muting import muted_by
from alerts.silences import create_silence, end_silence, read_silence
from alerts.views.frames import ask_to_delete, below, editors_frame
from alerts.wall_clocks import in_zone
from budgets.contexts.team import team_context, team_frame
from budgets.errors import Refusal
from budgets.pages import PageRequest

SILENCES = "team-silences"
WINDOWS = "team-maintenance"
_SILENCING = "silence its incidents"
_MAINTAINING = "change its maintenance windows"


@login_required
@require_safe
def silence_list(request: PageRequest, slug: str) -> HttpResponse:
    """Silences in force, coming and over."""
    frame = team_frame(request.user, slug, SILENCES)
    now = timezone.now()
    page = contexts.silence_list(frame.team, page=request.GET.get("page"), now=now)
    return render(request, "alerts/silences.html", team_context(frame, SILENCES, list=page, now=now))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest, slug: str) -> HttpResponse:
    """A new silence: a first POST shows what it mutes, a second one makes it. The query may fill in the form."""
    frame = editors_frame(request, slug, SILENCES, _SILENCING)
    now = timezone.now()
    initial: dict[str, Any] = {
        "matchers": [
            {"name": name, "operator": "=", "value": request.GET[name]}
            for name in NAMES
            if name in request.GET
        ],
        "reason": request.GET.get("reason", ""),
    }
    form = SilenceForm(request.POST or None, initial=initial)
    context: dict[str, Any] = {}
    if request.method == "POST" and form.is_valid():
        document = form.document(now)
        try:
            draft = read_silence(document, team=frame.team, now=now)
            if "confirmed" in request.POST:
                create_silence(team=frame.team, document=document, actor=request.user.email, now=now)
                messages.success(
                    request, "Silenced. Incidents still open and are shown; the error budget still burns."
                )
                return redirect(SILENCES, slug)
            context = {
                "muted": muted_by(team=frame.team, matchers=draft.matchers),
                "draft": draft,
                "starts": in_zone(draft.starts_at, form.cleaned_data["time_zone"]),
                "ends": in_zone(draft.ends_at, form.cleaned_data["time_zone"]),
                "about": described(draft.matchers),
            }
        except Refusal as refusal:
            form.add_refusal(refusal)
    context |= {"form": form, "suggestions": suggestions(frame.team), "now": now}
    page = below(frame, SILENCES, "New silence", **context)
    return render(request, "alerts/silence_new.html", page, status=400 if form.errors else 200)


@login_required
@require_POST
def end(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Ends a silence now."""
    frame = editors_frame(request, slug, SILENCES, _SILENCING)
    found = get_object_or_404(Silence, team=frame.team, pk=pk)
    end_silence(silence_id=found.pk, actor=request.user.email, now=timezone.now())
    messages.success(request, "Ended. What it held back is sent now, where it still holds.")
    return redirect(SILENCES, slug)


@login_required
@require_safe
def window_list(request: PageRequest, slug: str) -> HttpResponse:
    """Maintenance windows, and when each is open next."""
    frame = team_frame(request.user, slug, WINDOWS)
    now = timezone.now()
    lines = contexts.window_lines(frame.team, now)
    return render(request, "alerts/windows.html", team_context(frame, WINDOWS, lines=lines, now=now))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create_window(request: PageRequest, slug: str) -> HttpResponse:
    """A new maintenance window."""
    return _edit_window(request, slug, None)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def window(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Changes a maintenance window."""
    frame = editors_frame(request, slug, WINDOWS, _MAINTAINING)
    return _edit_window(request, slug, get_object_or_404(MaintenanceWindow, team=frame.team, pk=pk))


def _edit_window(request: PageRequest, slug: str, found: MaintenanceWindow | None) -> HttpResponse:
    """Asks, shows what it mutes where "preview" was pressed, and saves."""
    frame = editors_frame(request, slug, WINDOWS, _MAINTAINING)
    now = timezone.now()
    initial = (
        WindowForm.initial_of(found)
        if found
        else {
            "starts_on": now.date(),
            "matchers": [],
        }
    )
    form = WindowForm(request.POST or None, initial=initial, is_new=found is None)
    context: dict[str, Any] = {}
    if request.method == "POST" and form.is_valid():
        document = form.document()
        try:
            if "preview" in request.POST:
                read = read_window(document)
                require_to_come(read, found, now=now)
                require_to_close(read, found, now=now)
                context = {
                    "muted": muted_by(team=frame.team, matchers=read.matchers),
                    "about": described(read.matchers) or "every incident",
                    "next": contexts.next_of(read, now),
                    "zone": read.time_zone,
                }
            else:
                saved = save_window(
                    team=frame.team,
                    name=found.name if found else form.cleaned_data["name"],
                    document=document,
                    actor=request.user.email,
                    now=now,
                    is_new=found is None,
                )
                messages.success(request, f"Saved {saved.window.name}.")
                return redirect(WINDOWS, slug)
        except Refusal as refusal:
            form.add_refusal(refusal)
    title = found.name if found else "New maintenance window"
    context |= {"form": form, "window": found, "suggestions": suggestions(frame.team), "now": now}
    page = below(frame, WINDOWS, title, **context)
    return render(request, "alerts/window.html", page, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove_window(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and deletes."""
    frame = editors_frame(request, slug, WINDOWS, _MAINTAINING)
    found = get_object_or_404(MaintenanceWindow, team=frame.team, pk=pk)
    if request.method == "POST":
        delete_window(team=frame.team, name=found.name, actor=request.user.email, now=timezone.now())
        messages.success(request, f"Deleted {found.name}.")
        return redirect(WINDOWS, slug)
    return ask_to_delete(
        request,
        frame,
        WINDOWS,
        what="window",
        name=found.name,
        text="What it holds back now is sent at once, where it still holds. This cannot be undone.",
    )
