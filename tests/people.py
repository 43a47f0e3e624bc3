"""The cast of permission tests."""

from __future__ import annotations

from functools import cache

from django.contrib.auth.hashers import Argon2PasswordHasher, make_password

from budgets.models import Membership, Team, User

PASSWORD = "correct horse battery"


class QuickHasher(Argon2PasswordHasher):
    """Argon2 as the product uses it, with the least work that it takes: by design each takes a tenth of a second."""

    time_cost = 1
    memory_cost = 8
    parallelism = 1


@cache
def _hashed() -> str:
    return make_password(PASSWORD)


def make_person(email: str, *, team: Team | None = None, role: str = Membership.Role.VIEWER) -> User:
    """Somebody who can sign in with PASSWORD, and who has a role in the team where one is named."""
    person = User.objects.create(email=email, password=_hashed())
    if team is not None:
        Membership.objects.create(team=team, user=person, role=role)
    return person
