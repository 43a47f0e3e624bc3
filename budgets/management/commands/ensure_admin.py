"""Makes the first person who can sign in, and says how."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Membership, Team, User
from budgets.teams import add_member, create_team

_ACTOR = "manage.py ensure_admin"


class Command(BaseCommand):
    help = "Makes an administrator where nobody can sign in yet, and prints e-mail and password, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", default="admin@example.com", help="(default: %(default)s)")
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
            audit.record(
                team=None,
                actor=_ACTOR,
                action="user.created",
                subject=email,
                before=None,
                after={"is_superuser": True},
                now=timezone.now(),
            )
            self.stdout.write(f"Log in as {email} with password {password}")
        elif user is not None and password and user.check_password(password):
            self.stdout.write(f"Log in as {email} with password {password}")
        else:
            self.stdout.write(
                "Log in with the account that you have; `manage.py changepassword` sets a new password."
            )
        if user is not None and options["team"]:
            now, slug = timezone.now(), options["team"]
            try:
                team = Team.objects.filter(slug=slug).first() or create_team(
                    name=slug.capitalize(), slug=slug, actor=_ACTOR, now=now
                )
            except Refusal as refusal:
                raise CommandError(refusal.message) from refusal
            add_member(team=team, user=user, role=Membership.Role.ADMIN, actor=_ACTOR, now=now)
