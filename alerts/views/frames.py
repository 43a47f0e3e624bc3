"""The frame of a team's alerting pages: who may change what, and the way back to the list."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from budgets.contexts.team import TeamFrame, team_context, team_frame
from budgets.pages import PageRequest
from budgets.roles import Role, require_role


def editors_frame(request: PageRequest, slug: str, tab: str, to: str) -> TeamFrame:
    """The frame for editors, who may `to`; Http404 to outsiders, PermissionDenied to viewers."""
    frame = team_frame(request.user, slug, tab)
    require_role(request.user, frame.team, Role.EDITOR, to)
    return frame


def below(frame: TeamFrame, tab: str, title: str, **context: Any) -> dict[str, Any]:
    """What a page below the list of this tab takes."""
    made = team_context(frame, tab, title=title, **context)
    team, (name, _) = made["crumbs"][:-1], made["crumbs"][-1]
    return {**made, "crumbs": [*team, (name, reverse(tab, args=[frame.team.slug])), (title, "")]}


def ask_to_delete(
    request: PageRequest, frame: TeamFrame, tab: str, *, what: str, name: str, text: str
) -> HttpResponse:
    """The question before a thing of this list is deleted; `text` says what that means."""
    page = below(frame, tab, f"Delete {name}", name=name, text=text, verb=f"Delete the {what}", back=tab)
    return render(request, "alerts/delete.html", page)
