"""Pages of a team's channels: where its incidents are told, whether that works, and what was sent."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.channel_settings import delete_channel, rotate_secret, save_channel, switch_channel
from alerts.contexts import channels as contexts
from alerts.forms import CHANNEL_FORMS, ChannelForm
from alerts.models import Channel
from alerts.trials import try_channel
from budgets.contexts.team import TeamFrame, team_context, team_frame
from budgets.errors import Refusal
from budgets.pages import PageRequest
from budgets.roles import Role, require_role

TAB = "team-channels"


@login_required
@require_safe
def channel_list(request: PageRequest, slug: str) -> HttpResponse:
    """The team's channels, and what came of the last try of each."""
    frame = team_frame(request.user, slug, TAB)
    context = team_context(frame, TAB, list=contexts.channel_list(frame.team), now=timezone.now())
    return render(request, "alerts/channels.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest, slug: str) -> HttpResponse:
    """A new channel of the kind that the URL names."""
    frame = _editors_frame(request, slug)
    kind = request.GET.get("kind", Channel.Kind.WEBHOOK)
    if kind not in CHANNEL_FORMS:
        raise Http404(f"there is no kind of channel {kind!r:.50}")
    form = CHANNEL_FORMS[kind](request.POST or None, person=request.user)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_channel(
                team=frame.team,
                name=form.cleaned_data["name"],
                document=form.document(),
                actor=request.user.email,
                now=timezone.now(),
                is_new=True,
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            if saved.secret:
                return _page(request, frame, saved.channel, secret=saved.secret)
            messages.success(request, f"Saved. Test whether {saved.channel.name} works.")
            return redirect("team-channel", slug, saved.channel.pk)
    context = _context(
        frame,
        "New channel",
        form=form,
        kinds=[(one, Channel.Kind(one).label) for one in CHANNEL_FORMS],
        kind=kind,
        kind_label=Channel.Kind(kind).label,
    )
    return render(request, "alerts/channel_new.html", context, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def channel(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """One channel: its settings, its test, what it was sent. A POST saves the settings."""
    frame = team_frame(request.user, slug, TAB)
    found = get_object_or_404(Channel.objects.select_related("team", "owner"), team=frame.team, pk=pk)
    if request.method != "POST":
        return _page(request, frame, found)
    frame = _editors_frame(request, slug)
    _require_may_change(request, frame, found)
    form = CHANNEL_FORMS[found.kind](request.POST, channel=found, person=request.user)
    if form.is_valid():
        try:
            save_channel(
                team=frame.team,
                name=found.name,
                document=form.document(),
                actor=request.user.email,
                now=timezone.now(),
                is_new=False,
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, "Saved.")
            return redirect("team-channel", slug, pk)
    return _page(request, frame, found, form=form)


@login_required
@require_POST
def test(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Sends the test messages and waits for what the receiver answers, some 10 s at most."""
    frame = _editors_frame(request, slug)
    found = get_object_or_404(Channel, team=frame.team, pk=pk)
    _require_may_change(request, frame, found)
    try:
        trial = try_channel(channel_id=found.pk, actor=request.user.email, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        if trial.is_delivered:
            messages.success(request, "Delivered: the firing and the resolved test message arrived.")
        else:
            messages.error(request, f"Not delivered. {trial.error}")
    return redirect(f"{reverse('team-channel', args=[slug, pk])}#test")


@login_required
@require_POST
def switch(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Enables or disables."""
    frame = _editors_frame(request, slug)
    found = get_object_or_404(Channel, team=frame.team, pk=pk)
    _require_may_change(request, frame, found)
    is_enabled = request.POST.get("enabled") == "true"
    try:
        switch_channel(
            channel_id=found.pk, is_enabled=is_enabled, actor=request.user.email, now=timezone.now()
        )
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(
            request,
            "Enabled: it is told of the next incident."
            if is_enabled
            else "Disabled: it is told of nothing more, not even of the end of what it knows.",
        )
    return redirect("team-channel", slug, pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def secret(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and exchanges the signing secret; the answer is the only place where it can ever be read."""
    frame = _editors_frame(request, slug)
    found = get_object_or_404(
        Channel.objects.kept().select_related("team"), team=frame.team, pk=pk, kind=Channel.Kind.WEBHOOK
    )
    _require_may_change(request, frame, found)
    if request.method == "POST":
        try:
            made = rotate_secret(channel_id=found.pk, actor=request.user.email, now=timezone.now())
        except Refusal as refusal:
            messages.error(request, refusal.message)
            return redirect(TAB, slug)
        return _page(request, frame, found, secret=made)
    context = _context(frame, "New secret", found, channel=found)
    return render(request, "alerts/channel_secret.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and deletes."""
    frame = _editors_frame(request, slug)
    found = get_object_or_404(Channel.objects.kept().select_related("team"), team=frame.team, pk=pk)
    _require_may_change(request, frame, found)
    if request.method == "POST":
        try:
            delete_channel(channel_id=found.pk, actor=request.user.email, now=timezone.now())
        except Refusal as refusal:
            messages.error(request, refusal.message)
        else:
            messages.success(request, f"Deleted. What {found.name} was sent can still be read.")
        return redirect(TAB, slug)
    context = _context(frame, "Delete", found, channel=found)
    return render(request, "alerts/channel_delete.html", context)


def _editors_frame(request: PageRequest, slug: str) -> TeamFrame:
    """The frame for who may change channels; Http404 to outsiders, PermissionDenied to viewers."""
    frame = team_frame(request.user, slug, TAB)
    require_role(request.user, frame.team, Role.EDITOR, "change its channels")
    return frame


def _may_change(request: PageRequest, frame: TeamFrame, found: Channel) -> bool:
    """Of an editor: what is somebody else's own tells that person at night, and where it leads is theirs to say."""
    return found.owner_id in (None, request.user.pk) or frame.is_admin


def _require_may_change(request: PageRequest, frame: TeamFrame, found: Channel) -> None:
    """Raises PermissionDenied where an editor would change a colleague's own channel."""
    if not _may_change(request, frame, found):
        require_role(request.user, frame.team, Role.ADMIN, "change somebody else's own channel")


def _page(
    request: PageRequest,
    frame: TeamFrame,
    found: Channel,
    *,
    form: ChannelForm | None = None,
    secret: str = "",
) -> HttpResponse:
    can_edit = frame.is_editor and _may_change(request, frame, found)
    page = contexts.channel_page(found, can_edit=can_edit, page=request.GET.get("page"))
    if page.can_edit and form is None:
        form = CHANNEL_FORMS[found.kind](channel=found, person=request.user)
    context = _context(
        frame, found.name, page=page, form=form if page.can_edit else None, secret=secret, now=timezone.now()
    )
    response = render(
        request, "alerts/channel.html", context, status=400 if form is not None and form.errors else 200
    )
    # An address may be a secret, and a new secret is shown once: a page with either is kept nowhere.
    add_never_cache_headers(response)
    return response


def _context(frame: TeamFrame, title: str, below: Channel | None = None, **context: Any) -> dict[str, Any]:
    """What the pages below the list take; `below` is the channel between the list and the page."""
    made = team_context(frame, TAB, title=title, **context)
    team, (name, _) = made["crumbs"][:-1], made["crumbs"][-1]
    crumbs = [*team, (name, reverse(TAB, args=[frame.team.slug]))]
    if below is not None:
        crumbs.append((below.name, reverse("team-channel", args=[frame.team.slug, below.pk])))
    return {**made, "crumbs": [*crumbs, (title, "")]}
