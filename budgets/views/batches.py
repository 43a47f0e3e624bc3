"""Pages of a team about what was sent: its batches, discarding them, and what was rejected."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from budgets import discard as discarding
from budgets import doorbell
from budgets.batch_forms import BatchFilterForm, DiscardForm
from budgets.contexts.team import team_context, team_frame
from budgets.errors import Refusal
from budgets.models import Batch, Feature, Team
from budgets.pages import PageRequest
from budgets.rejections import last_rejected
from budgets.roles import Role, require_role

BATCHES_A_PAGE = 25


@login_required
@require_safe
def batches(request: PageRequest, slug: str) -> HttpResponse:
    """What the team's services sent, newest first, and how far each batch has come."""
    frame = team_frame(request.user, slug, "team-batches")
    form = BatchFilterForm(frame.team, request.GET)
    found = Batch.objects.filter(team=frame.team).select_related("key").order_by("-pk")
    if form.is_valid():
        found = form.narrow(found)
    page = Paginator(found, BATCHES_A_PAGE).get_page(request.GET.get("page"))
    query = {name: value for name, value in request.GET.items() if value and name != "page"}
    context = team_context(
        frame,
        "team-batches",
        form=form,
        page=page,
        is_filtered=bool(query),
        query=urlencode(query),
        has_chosen=form.is_valid() and form.is_range,
        **_first_step(frame.team),
    )
    return render(request, "budgets/team/batches.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def discard(request: PageRequest, slug: str) -> HttpResponse:
    """Shows what would be discarded, asks why, and discards it.

    Which batches is said by the query: `batch`, an id, or the range of the list's filter.
    """
    frame = team_frame(request.user, slug, "team-batches")
    require_role(request.user, frame.team, Role.ADMIN, "discard batches")
    chosen = BatchFilterForm(frame.team, request.GET)
    back = reverse("team-batches", args=[slug])
    if not chosen.is_valid() or not chosen.is_range:
        messages.error(request, "Choose what to discard: one batch, or a key's batches between two instants.")
        return redirect(f"{back}?{request.GET.urlencode()}")
    found = chosen.narrow(discarding.discardable(frame.team))
    form = DiscardForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            done = discarding.discard(
                team=frame.team,
                batches=found,
                reason=form.cleaned_data["reason"],
                actor=request.user.email,
                now=timezone.now(),
            )
        except Refusal as refusal:
            form.add_error("reason" if refusal.fields else None, refusal.message)
        else:
            doorbell.send("budgets.tasks.discard")
            messages.success(
                request,
                f"Discarded {done}. The rollups follow within moments.",
            )
            return redirect(back)
    context = team_context(
        frame, "team-batches", extent=discarding.extent(found), form=form, query=request.GET.urlencode()
    )
    return render(request, "budgets/team/discard.html", context, status=400 if form.errors else 200)


@login_required
@require_safe
def rejected(request: PageRequest, slug: str) -> HttpResponse:
    """The last payloads of which something was refused, and why, key by key."""
    frame = team_frame(request.user, slug, "team-rejected")
    keys = list(frame.team.ingest_keys.order_by("name", "pk"))
    chosen = [key for key in keys if key.prefix == request.GET.get("key")]
    context = team_context(
        frame,
        "team-rejected",
        keys=keys,
        chosen=chosen[0] if chosen else None,
        payloads=last_rejected(chosen or keys),
        has_others=bool(chosen) and bool(last_rejected(keys)),
        was_received=Batch.objects.filter(team=frame.team).exists(),
        **_first_step(frame.team),
    )
    return render(request, "budgets/team/rejected.html", context)


def _first_step(team: Team) -> dict[str, str]:
    """Where somebody goes to whose team has sent nothing: to the start of its first feature, or to declaring one."""
    feature = Feature.objects.filter(team=team).active().order_by("name", "pk").first()
    if feature is None:
        return {"first_url": reverse("overview"), "first_label": "Create its first feature"}
    return {
        "first_url": reverse("feature-start", args=[feature.slug]),
        "first_label": "Send the first measurement",
    }
