"""Makes the first person who can sign in, and says how."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from budgets.models import Membership, Team, User


class Command(BaseCommand):
    help = "Makes an administrator where nobody can sign in yet, and prints e-mail and password, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", default="admin@example.com")
        parser.add_argument("--password", help="made up and printed where it is not given")
        parser.add_argument("--team", help="also make this team and the administrator an admin of it")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"].lower()
        user = User.objects.filter(email=email).first()
        password = options["password"]
        if user is None and (password or not User.objects.exists()):
            password = password or secrets.token_urlsafe(12)
            user = User.objects.create_superuser(email, password)
            self.stdout.write(f"Log in as {email} with password {password}")
        elif user is not None and password and user.check_password(password):
            self.stdout.write(f"Log in as {email} with password {password}")
        else:
            self.stdout.write(
                "Log in with the account that you have; `manage.py changepassword` sets a new password."
            )
        if user is not None and options["team"]:
            team, _ = Team.objects.get_or_create(
                slug=options["team"], defaults={"name": options["team"].capitalize()}
            )
            Membership.objects.get_or_create(team=team, user=user, defaults={"role": Membership.Role.ADMIN})
