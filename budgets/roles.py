"""What a person may do in a team: a viewer looks, an editor changes what the team promises, an admin its people and keys."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet

from .models import Membership, Team, User

Role = Membership.Role

# Each may what those before it may.
_ORDER = (Role.VIEWER, Role.EDITOR, Role.ADMIN)


def role_in(user: User, team: Team) -> Role | None:
    """The person's role in the team; None for an outsider. A superuser is an admin of every team."""
    if user.is_superuser:
        return Role.ADMIN
    role = Membership.objects.filter(user=user, team=team).values_list("role", flat=True).first()
    return Role(role) if role else None


def has_role(user: User, team: Team, at_least: Role) -> bool:
    """Whether the person may do in the team what takes this role."""
    role = role_in(user, team)
    return role is not None and _ORDER.index(role) >= _ORDER.index(at_least)


def require_role(user: User, team: Team, at_least: Role, to: str) -> None:
    """Raises PermissionDenied, which says who may `to`, e.g. "revoke keys", unless the person has the role.

    What an outsider asks for is not found; look objects up by `visible_to` first.
    """
    if not has_role(user, team, at_least):
        who = "admins" if at_least == Role.ADMIN else "editors and admins"
        raise PermissionDenied(f"Only {who} of team {team.name} may {to}.")


def teams_where(user: User, at_least: Role) -> QuerySet[Team]:
    """The teams in which the person has this role or a higher one, by name."""
    teams = Team.objects.order_by("name", "slug")
    if user.is_superuser:
        return teams
    return teams.filter(memberships__user=user, memberships__role__in=_ORDER[_ORDER.index(at_least) :])
