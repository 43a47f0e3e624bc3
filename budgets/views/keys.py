"""The page of a team's keys: made, shown once, revoked."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods

from budgets.contexts.keys import key_lines, snippet
from budgets.contexts.team import team_context, team_frame
from budgets.errors import Refusal
from budgets.keys import create_key, revoke_key
from budgets.models import IngestKey
from budgets.pages import PageRequest, own_address
from budgets.roles import Role, require_role
from budgets.team_forms import KeyForm


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: PageRequest, slug: str) -> HttpResponse:
    """The team's keys. A POST makes one; its answer is the only place where the key can ever be read."""
    now = timezone.now()
    frame = team_frame(request.user, slug, "team-keys")
    form, made, token = KeyForm(), None, ""
    if request.method == "POST":
        require_role(request.user, frame.team, Role.ADMIN, "make keys")
        form = KeyForm(request.POST)
        if form.is_valid():
            try:
                made, token = create_key(
                    team_slug=frame.team.slug,
                    name=form.cleaned_data["name"],
                    scopes=form.cleaned_data["scopes"],
                    expires_at=form.expires_at,
                    actor=request.user.email,
                    now=now,
                )
            except Refusal as refusal:
                form.add_refusal(refusal)
            else:
                form = KeyForm()
    usable, ended = key_lines(frame.team, now)
    context = team_context(
        frame,
        "team-keys",
        form=form,
        usable=usable,
        ended=ended,
        made=made,
        token=token,
        snippet=snippet(made, token, own_address(request), now) if made else None,
        now=now,
    )
    response = render(request, "budgets/team/keys.html", context, status=400 if form.errors else 200)
    # With a key in it, a page is kept nowhere: not by the browser either, whose history would show it again.
    add_never_cache_headers(response)
    return response


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and revokes."""
    now = timezone.now()
    frame = team_frame(request.user, slug, "team-keys")
    require_role(request.user, frame.team, Role.ADMIN, "revoke keys")
    key = get_object_or_404(IngestKey, team=frame.team, pk=pk)
    if request.method == "POST":
        if revoke_key(key_id=key.pk, actor=request.user.email, now=now):
            messages.success(request, f"Revoked. Whoever still uses {key.name} is answered 401.")
        else:
            messages.info(request, f"Nothing was changed: {key.name} was revoked before.")
        return redirect("team-keys", slug=slug)
    context = team_context(frame, "team-keys", key=key, back=reverse("team-keys", args=[slug]), now=now)
    return render(request, "budgets/team/revoke_key.html", context)
