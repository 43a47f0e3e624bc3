"""The cast of permission tests."""

from __future__ import annotations

from functools import cache

from django.contrib.auth.hashers import make_password

from budgets.models import Membership, Team, User

PASSWORD = "correct horse battery"


@cache
def _hashed() -> str:
    """Slow by design, so once for all of the cast."""
    return make_password(PASSWORD)


def make_person(email: str, *, team: Team | None = None, role: str = Membership.Role.VIEWER) -> User:
    """Somebody who can sign in with PASSWORD, and who has a role in the team where one is named."""
    person = User.objects.create(email=email, password=_hashed())
    if team is not None:
        Membership.objects.create(team=team, user=person, role=role)
    return person
