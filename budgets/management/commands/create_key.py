"""Makes a bearer key and prints it once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from budgets.errors import Refusal
from budgets.keys import create_key


class Command(BaseCommand):
    help = "Makes a key for a team and prints it, once. The team is made where it is new."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's slug, e.g. assistants")
        parser.add_argument("--name", required=True, help="what the key is for, e.g. 'chat backend'")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=["ingest", "read", "write"],
            help="repeat for several",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _, token = create_key(
                team_slug=options["team"],
                name=options["name"],
                scopes=options["scope"],
                actor="manage.py create_key",
                now=timezone.now(),
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        # Nothing but the key on standard output, so that a script can take it.
        self.stdout.write(token)
        self.stderr.write("This key is shown once: keep it now.")
