"""The budget editor: create, edit, versions, archive and restore. Everything is saved by `declare_feature`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_http_methods, require_safe

from budgets import doorbell
from budgets.contexts.editor import (
    Conflict,
    EditorPage,
    conflict_of,
    current_document,
    editor_page,
    saved_words,
)
from budgets.contexts.frame import asked_environment
from budgets.contexts.versions import versions_page
from budgets.documents import read_document
from budgets.drafts import Draft, field_errors
from budgets.errors import Refusal
from budgets.features import Declared, PlannedVersion, declare_feature, digest_of, plan_versions
from budgets.models import Feature, Team
from budgets.pages import PageRequest
from budgets.presets import PRESETS
from budgets.roles import Role, has_role, require_role, teams_where

_TO_CHANGE = "change its features"
require_form = require_http_methods(["GET", "HEAD", "POST"])


@login_required
@require_form
def create(request: PageRequest) -> HttpResponse:
    """A new feature: first its kind, then the form with what that kind usually promises."""
    teams = list(teams_where(request.user, Role.EDITOR))
    if not teams and request.user.is_superuser:
        messages.info(request, "A feature belongs to a team. Make the first one, then create its feature.")
        return redirect("teams")
    if not teams:
        raise PermissionDenied("Only editors and admins of a team may create its features.")
    now = timezone.now()
    if request.method != "POST":
        preset = PRESETS.get(request.GET.get("kind", ""))
        if preset is None:
            crumbs = [("Overview", reverse("overview")), ("Create a feature", "")]
            context = {"presets": PRESETS.values(), "section": "features", "crumbs": crumbs}
            return render(request, "budgets/editor/kinds.html", context)
        document = {**preset.document(), "team": teams[0].slug}
        return _page(request, _editor(request, Draft.of_document(document), None, teams, now))

    team = next((one for one in teams if one.slug == request.POST.get("team")), None)
    draft = Draft.of_form(request.POST)
    draft = replace(
        draft,
        digest="",
        team=team.slug if team else teams[0].slug if len(teams) == 1 else "",
        slug=draft.slug or slugify(draft.name)[:200],
    )
    if request.POST.get("action") != "save":
        return _answer_draft(request, draft, None, teams, now)
    chosen = team or (teams[0] if len(teams) == 1 else None)
    if chosen is None:
        refused = {"team": ["Choose the team that the feature belongs to."]}
        return _refused(request, draft, None, teams, now, refused)
    return _save(request, draft, None, chosen, teams, now)


@login_required
@require_form
def edit(request: PageRequest, slug: str) -> HttpResponse:
    """The form of a feature that is there."""
    feature, now = _editable(request, slug), timezone.now()
    if request.method != "POST":
        document = current_document(feature)
        draft = Draft.of_document(document, slug=slug, digest=digest_of(document))
        return _page(request, _editor(request, draft, feature, (), now))
    draft = Draft.of_form(request.POST, slug=slug, team=feature.team.slug, is_archived=feature.is_archived)
    if request.POST.get("action") == "save":
        return _save(request, draft, feature, feature.team, (), now)
    if request.POST.get("action") == "overwrite":
        seen = request.POST.get("seen", "")
        return _save(request, draft, feature, feature.team, (), now, expected_digest=seen)
    if request.POST.get("action") == "merge":
        return _merge(request, draft, feature, now)
    return _answer_draft(request, draft, feature, (), now)


@login_required
@require_safe
def versions(request: PageRequest, slug: str) -> HttpResponse:
    """Every version of a feature's latency budgets, and what each changed."""
    feature = _visible(request, slug)
    context = {
        "page": versions_page(feature, timezone.now()),
        "can_edit": has_role(request.user, feature.team, Role.EDITOR),
        "section": "features",
        "crumbs": _crumbs(feature, "Versions"),
    }
    return render(request, "budgets/versions.html", context)


@login_required
@require_safe
def archived(request: PageRequest) -> HttpResponse:
    """The features that are no longer measured, each with the way back for those who may."""
    features = Feature.objects.visible_to(request.user).exclude(archived_at=None)
    context = {
        "features": features.select_related("team").order_by("-archived_at"),
        "editable_teams": set(teams_where(request.user, Role.EDITOR).values_list("pk", flat=True)),
        "section": "features",
        "crumbs": [("Overview", reverse("overview")), ("Archived features", "")],
    }
    return render(request, "budgets/archived.html", context)


@login_required
@require_form
def archive(request: PageRequest, slug: str) -> HttpResponse:
    """Asks, then archives: measurements of the feature are rejected from then on."""
    return _set_archived(request, slug, is_archived=True)


@login_required
@require_form
def restore(request: PageRequest, slug: str) -> HttpResponse:
    """Asks, then takes an archived feature back."""
    return _set_archived(request, slug, is_archived=False)


def _set_archived(request: PageRequest, slug: str, *, is_archived: bool) -> HttpResponse:
    feature = _editable(request, slug)
    if request.method != "POST":
        what = "Archive" if is_archived else "Restore"
        context = {
            "feature": feature,
            "is_archiving": is_archived,
            "section": "features",
            "crumbs": _crumbs(feature, what),
        }
        return render(request, "budgets/archive.html", context)
    with transaction.atomic():
        # Read under the lock, so that nobody's change is undone by what was read before it.
        locked = Feature.objects.select_for_update().get(pk=feature.pk)
        document = {**current_document(locked), "archived": is_archived}
        declare_feature(
            team=feature.team, slug=slug, document=document, actor=request.user.email, now=timezone.now()
        )
    done = "Archived. Its measurements are rejected from now on." if is_archived else "Restored."
    messages.success(request, done)
    return redirect("archived-features" if is_archived else feature)


# -- saving -----------------------------------------------------------------------------------------


def _save(
    request: PageRequest,
    draft: Draft,
    feature: Feature | None,
    team: Team,
    teams: Sequence[Team],
    now: datetime,
    *,
    expected_digest: str | None = None,
) -> HttpResponse:
    """Saves over the document that the draft began from, or over the one with `expected_digest`."""
    checked = draft.check()
    if checked.errors:
        return _refused(request, draft, feature, teams, now)
    planned = plan_versions(feature, read_document(draft.slug, checked.document), now)
    try:
        declared = declare_feature(
            team=team,
            slug=draft.slug,
            document=checked.document,
            actor=request.user.email,
            now=now,
            expected_digest=draft.digest if expected_digest is None else expected_digest,
        )
    except Refusal as refusal:
        if refusal.code == "changed_meanwhile" and feature is not None:
            return _conflict(request, draft, feature, now)
        if refusal.status == 404:
            raise Http404(refusal.message) from refusal
        return _refused(request, draft, feature, teams, now, field_errors(refusal))
    if declared.feature.rejudge_requested_at is not None:
        doorbell.send("budgets.tasks.rejudge")
    messages.success(request, _done_words(declared, planned))
    return redirect("feature-start", slug=draft.slug) if declared.is_created else redirect(declared.feature)


def _done_words(declared: Declared, planned: Sequence[PlannedVersion]) -> str:
    if declared.is_created:
        return f"{declared.feature.name} is declared. Now its first measurement."
    return saved_words(planned) if declared.is_changed else "Nothing was changed."


def _conflict(request: PageRequest, draft: Draft, feature: Feature, now: datetime) -> HttpResponse:
    """What others changed, beside what was typed.

    The draft goes on from the document that it began from, so that saving it without a choice is refused again:
    theirs gives way only to what was chosen on seeing it.
    """
    theirs = current_document(feature)
    conflict = conflict_of(feature, draft, theirs)
    draft = replace(draft, is_archived=theirs["archived"])
    if not conflict.fields:
        draft = replace(draft, digest=conflict.seen)
    return _page(request, _editor(request, draft, feature, (), now, conflict=conflict), status=409)


def _merge(request: PageRequest, draft: Draft, feature: Feature, now: datetime) -> HttpResponse:
    """Takes others' values for the fields that were ticked; nothing is saved yet."""
    theirs = current_document(feature)
    if digest_of(theirs) != request.POST.get("seen"):
        return _conflict(request, draft, feature, now)
    draft = replace(draft, digest=digest_of(theirs))
    for path in request.POST.getlist("theirs"):
        draft = draft.taking(path, theirs)
    messages.info(request, "The ticked changes are in the form now. Nothing is saved yet.")
    return _page(request, _editor(request, draft, feature, (), now))


def _refused(
    request: PageRequest,
    draft: Draft,
    feature: Feature | None,
    teams: Sequence[Team],
    now: datetime,
    refused: Mapping[str, Sequence[str]] | None = None,
) -> HttpResponse:
    page = _editor(request, draft, feature, teams, now, shows_errors=True, refused=refused)
    return _page(request, page, status=400)


# -- answering --------------------------------------------------------------------------------------


def _answer_draft(
    request: PageRequest, draft: Draft, feature: Feature | None, teams: Sequence[Team], now: datetime
) -> HttpResponse:
    """The form after a button that saves nothing; to the page's script, its preview or its replay alone."""
    what, _, which = request.POST.get("action", "").partition(":")
    if what == "add":
        draft = draft.with_component()
    elif what == "adopt":
        draft = draft.with_component(which)
    elif what == "remove" and which.isdecimal():
        draft = draft.without_component(int(which))
    elif what in ("up", "down") and which.isdecimal():
        draft = draft.moved(int(which), -1 if what == "up" else 1)
    part = request.headers.get("X-Preview", "")
    if part == "replay" and feature is not None:
        environment = asked_environment(request.GET.get("environment"))
        context = {"feature": feature, "draft": draft, "environment": environment}
        return _part(render(request, "budgets/editor/replay.html", context))
    is_preview = what == "preview"
    page = _editor(
        request, draft, feature, teams, now, shows_errors=is_preview, is_replayed=is_preview and not part
    )
    if part:
        return _part(render(request, "budgets/editor/preview.html", {"page": page}))
    return _page(request, page)


def _part(response: HttpResponse) -> HttpResponse:
    """By its header the page's script knows the part from a login page."""
    response["X-Page-Part"] = "1"
    return response


def _editor(
    request: PageRequest,
    draft: Draft,
    feature: Feature | None,
    teams: Sequence[Team],
    now: datetime,
    *,
    shows_errors: bool = False,
    refused: Mapping[str, Sequence[str]] | None = None,
    conflict: Conflict | None = None,
    is_replayed: bool = False,
) -> EditorPage:
    """The page for a draft; before anything was typed, where the request only reads."""
    return editor_page(
        draft,
        feature=feature,
        teams=teams,
        environment=asked_environment(request.GET.get("environment")),
        now=now,
        is_untouched=request.method != "POST",
        shows_errors=shows_errors,
        refused=refused,
        conflict=conflict,
        is_replayed=is_replayed,
    )


def _page(request: PageRequest, page: EditorPage, *, status: int = 200) -> HttpResponse:
    if page.feature is not None:
        crumbs = _crumbs(page.feature, "Edit")
    else:
        crumbs = [("Overview", reverse("overview")), ("Create a feature", reverse("feature-create"))]
        crumbs.append((page.draft.name or "New", ""))
    context = {"page": page, "section": "features", "crumbs": crumbs}
    return render(request, "budgets/editor.html", context, status=status)


def _crumbs(feature: Feature, here: str) -> list[tuple[str, str]]:
    return [("Overview", reverse("overview")), (feature.name, feature.get_absolute_url()), (here, "")]


def _visible(request: PageRequest, slug: str) -> Feature:
    return get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)


def _editable(request: PageRequest, slug: str) -> Feature:
    feature = _visible(request, slug)
    require_role(request.user, feature.team, Role.EDITOR, _TO_CHANGE)
    return feature
