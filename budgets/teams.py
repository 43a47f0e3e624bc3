"""Teams and their people: making a team, and who has which role in it."""

from __future__ import annotations

import re
from datetime import datetime

from django.db import IntegrityError, transaction

from . import audit
from .errors import Refusal
from .models import Membership, Team, User
from .zones import is_zone

Role = Membership.Role

MAX_NAME_CHARACTERS = 200
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def create_team(*, name: str, slug: str, actor: str, now: datetime, admin: User | None = None) -> Team:
    """A new team; `admin` becomes its first. Raises Refusal("invalid_team")."""
    name, fields = " ".join(name.split()), {}
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or "\0" in name:
        fields["name"] = [f"A team needs a name of 1 to {MAX_NAME_CHARACTERS} characters."]
    if not SLUG.fullmatch(slug) or len(slug) > MAX_NAME_CHARACTERS:
        fields["slug"] = [f"Small letters, digits and single hyphens, e.g. on-call; got {slug!r:.100}."]
    if fields:
        raise Refusal.of("invalid_team", fields)
    try:
        with transaction.atomic():
            team = Team.objects.create(name=name, slug=slug, created_at=now)
            audit.record(
                team=team,
                actor=actor,
                action="team.created",
                subject=slug,
                before=None,
                after={"name": name, "slug": slug},
                now=now,
            )
            if admin is not None:
                add_member(team=team, user=admin, role=Role.ADMIN, actor=actor, now=now)
    except IntegrityError as error:
        taken = [f"There is a team {slug!r} already. Choose another name for addresses."]
        raise Refusal.of("invalid_team", {"slug": taken}) from error
    return team


def set_time_zone(*, team: Team, time_zone: str, actor: str, now: datetime) -> None:
    """The clock by which messages tell the team when something was. Raises Refusal("invalid_team")."""
    if not is_zone(time_zone):
        said = f"Expected the IANA name of a time zone such as Europe/Berlin, got {time_zone!r:.100}."
        raise Refusal.of("invalid_team", {"time_zone": [said]})
    with transaction.atomic():
        before = Team.objects.select_for_update().get(pk=team.pk).time_zone
        if before == time_zone:
            return
        Team.objects.filter(pk=team.pk).update(time_zone=time_zone)
        audit.record(
            team=team,
            actor=actor,
            action="team.time_zone_changed",
            subject=team.slug,
            before={"time_zone": before},
            after={"time_zone": time_zone},
            now=now,
        )


def add_member(*, team: Team, user: User, role: Role, actor: str, now: datetime) -> bool:
    """Takes a person into the team; False where they are in it already, and then their role stays."""
    with transaction.atomic():
        _, is_new = Membership.objects.get_or_create(team=team, user=user, defaults={"role": role})
        if is_new:
            audit.record(
                team=team,
                actor=actor,
                action="member.added",
                subject=user.email,
                before=None,
                after={"role": str(role)},
                now=now,
            )
    return is_new


def change_role(*, team: Team, user_id: int, role: str, actor: str, now: datetime) -> Membership:
    """Gives a member another role. Raises Refusal: unknown_role, unknown_member or last_admin."""
    if role not in Role.values:
        raise Refusal(
            "unknown_role",
            f"A role is one of {', '.join(Role.values)}, got {role!r:.100}. Nothing was changed.",
        )
    with transaction.atomic():
        membership = _for_change(team, user_id)
        before = membership.role
        if before == Role.ADMIN and role != Role.ADMIN:
            _require_another_admin(membership)
        membership.role = role
        membership.save(update_fields=["role"])
        audit.record(
            team=team,
            actor=actor,
            action="member.role_changed",
            subject=membership.user.email,
            before={"role": before},
            after={"role": role},
            now=now,
        )
    return membership


def remove_member(*, team: Team, user_id: int, actor: str, now: datetime) -> User:
    """Takes a person out of the team; the account stays. Raises Refusal: unknown_member or last_admin."""
    with transaction.atomic():
        membership = _for_change(team, user_id)
        if membership.role == Role.ADMIN:
            _require_another_admin(membership)
        user, role = membership.user, membership.role
        membership.delete()
        audit.record(
            team=team,
            actor=actor,
            action="member.removed",
            subject=user.email,
            before={"role": role},
            after=None,
            now=now,
        )
    return user


def _for_change(team: Team, user_id: int) -> Membership:
    """The membership while nobody else changes who is in the team: two admins who leave at once, for instance."""
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    membership = Membership.objects.select_related("user").filter(team=team, user_id=user_id).first()
    if membership is None:
        raise Refusal("unknown_member", "This person is not in the team any more.", status=404)
    return membership


def _require_another_admin(membership: Membership) -> None:
    others = Membership.objects.filter(team=membership.team_id, role=Role.ADMIN, user__is_active=True)
    if not others.exclude(pk=membership.pk).exists():
        raise Refusal(
            "last_admin",
            f"{membership.user.email} is the only admin of this team. Make somebody else an admin first. "
            "Nothing was changed.",
            status=409,
        )
