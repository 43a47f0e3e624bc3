"""What all pages of one team share: who is asking, and the tabs that lead to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.shortcuts import get_object_or_404
from django.urls import reverse

from budgets.models import Membership, Team, User
from budgets.roles import role_in

# Name of the URL → what the tab says. A page of a team's has one of these names.
TABS = {
    "team-members": "Members",
    "team-keys": "Keys",
    "team-batches": "Batches",
    "team-rejected": "Rejected",
    "team-channels": "Channels",
    "team-policies": "Escalation",
    "team-schedules": "On call",
    "team-silences": "Silences",
    "team-maintenance": "Maintenance",
    "team-audit": "Audit log",
}


@dataclass(frozen=True)
class TeamFrame:
    """The frame of a team's page, `team_frame` in templates/budgets/team/base.html."""

    team: Team
    role: Membership.Role
    tabs: list[tuple[str, str, bool]]
    """Text, address, and whether it is this page."""

    @property
    def is_editor(self) -> bool:
        return self.role in (Membership.Role.EDITOR, Membership.Role.ADMIN)

    @property
    def is_admin(self) -> bool:
        return self.role == Membership.Role.ADMIN


def team_frame(user: User, slug: str, tab: str) -> TeamFrame:
    """The frame of the tab with this URL name; Http404 where the person is not in the team."""
    team = get_object_or_404(Team.objects.visible_to(user), slug=slug)
    role = role_in(user, team)
    assert role is not None, "who sees a team has a role in it"
    tabs = [(text, reverse(name, args=[slug]), name == tab) for name, text in TABS.items()]
    return TeamFrame(team, role, tabs)


def team_context(frame: TeamFrame, tab: str, **context: Any) -> dict[str, Any]:
    """What a template that extends budgets/team/base.html takes."""
    crumbs = [("Teams", reverse("teams")), (frame.team.name, reverse("team-members", args=[frame.team.slug]))]
    return {"team_frame": frame, "section": "teams", "crumbs": [*crumbs, (TABS[tab], "")], **context}
