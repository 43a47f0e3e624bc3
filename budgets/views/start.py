"""The start page of a feature: make a key, paste a command, see the first measurement arrive."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods

from budgets.contexts.frame import Frame
from budgets.contexts.start import admins_of, arrival_of, send_of, sending_keys
from budgets.errors import Refusal
from budgets.keys import create_key
from budgets.models import Feature, IngestKey
from budgets.pages import PageRequest, answer_page, own_address
from budgets.roles import Role, has_role, require_role
from budgets.team_forms import FirstKeyForm


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def start(request: PageRequest, slug: str) -> HttpResponse:
    """How the first measurement is sent, and what arrived. A POST makes a key, which its answer alone shows."""
    now = timezone.now()
    feature = get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)
    form, made, token = FirstKeyForm(initial={"name": feature.slug}), None, ""
    if request.method == "POST":
        require_role(request.user, feature.team, Role.ADMIN, "make keys")
    if feature.is_archived:
        return redirect(feature)
    if request.method == "POST":
        form = FirstKeyForm(request.POST)
        if form.is_valid():
            try:
                made, token = create_key(
                    team_slug=feature.team.slug,
                    name=form.cleaned_data["name"],
                    scopes=[IngestKey.Scope.INGEST],
                    actor=request.user.email,
                    now=now,
                )
            except Refusal as refusal:
                form.add_refusal(refusal)
    arrival = arrival_of(feature, now)
    response = answer_page(
        request,
        page="budgets/start.html",
        parts="budgets/start_parts.html",
        context={
            "feature": feature,
            "arrival": arrival,
            "form": form,
            "made": made,
            "token": token,
            "keys": sending_keys(feature, now),
            "send": send_of(feature, base=own_address(request), token=token, now=now),
            "is_admin": has_role(request.user, feature.team, Role.ADMIN),
            "is_editor": has_role(request.user, feature.team, Role.EDITOR),
            "admins": admins_of(feature),
            "now": now,
            "frame": Frame(as_of=now),
            "section": "features",
            "crumbs": [
                ("Overview", reverse("overview")),
                (feature.name, feature.get_absolute_url()),
                ("Start", ""),
            ],
        },
    )
    if form.errors:
        response.status_code = 400
    if made is not None:
        # With a key in it, a page is kept nowhere: not by the browser either, whose history would show it again.
        add_never_cache_headers(response)
    return response
