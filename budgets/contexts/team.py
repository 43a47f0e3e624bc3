"""What all pages of one team share: who is asking, and the tabs that lead to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.shortcuts import get_object_or_404
from django.urls import reverse

from budgets.models import Membership, Team, User
from budgets.roles import role_in

# Group → name of the URL → what the tab says. A page of a team's has one of these names.
GROUPS: Final = {
    "Promises": {"team-report": "Report"},
    "People": {"team-members": "Members", "team-audit": "Audit log"},
    "Data": {"team-keys": "Keys", "team-batches": "Batches", "team-rejected": "Rejected"},
    "Alerting": {
        "team-channels": "Channels",
        "team-policies": "Escalation",
        "team-schedules": "On call",
        "team-silences": "Silences",
        "team-maintenance": "Maintenance",
    },
}
TABS: Final = {name: text for tabs in GROUPS.values() for name, text in tabs.items()}


@dataclass(frozen=True)
class Tab:
    text: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class TabGroup:
    name: str
    tabs: list[Tab]


@dataclass(frozen=True)
class TeamFrame:
    """The frame of a team's page, `team_frame` in templates/budgets/team/base.html."""

    team: Team
    role: Membership.Role
    groups: list[TabGroup]
    """Every page of the team's, in groups that are too many for one row of a phone."""

    @property
    def current(self) -> tuple[str, str]:
        """The group and the tab of this page."""
        return next((group.name, tab.text) for group in self.groups for tab in group.tabs if tab.is_current)

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
    groups = [
        TabGroup(group, [Tab(text, reverse(name, args=[slug]), name == tab) for name, text in names.items()])
        for group, names in GROUPS.items()
    ]
    return TeamFrame(team, role, groups)


def team_context(frame: TeamFrame, tab: str, **context: Any) -> dict[str, Any]:
    """What a template that extends budgets/team/base.html takes."""
    crumbs = [("Teams", reverse("teams")), (frame.team.name, reverse("team-members", args=[frame.team.slug]))]
    return {"team_frame": frame, "section": "teams", "crumbs": [*crumbs, (TABS[tab], "")], **context}
