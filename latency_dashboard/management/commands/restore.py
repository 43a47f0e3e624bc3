"""Fills an empty database with what a backup holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from latency_dashboard.backup import BackupError, restore


class Command(BaseCommand):
    help = (
        "Fills an empty database with what `manage.py backup` wrote, by this version or an older one. Stop web, "
        "workers and beat first. A database that holds anything is left as it is."
    )
    # The tables are made as the backup needs them; until then there is nothing that a check could look at.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            done = restore(options["file"])
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Restored {done.total} rows of {len(done.rows)} tables, as of {done.taken_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"written by version {done.version}."
        )
        if done.is_other_pepper:
            self.stderr.write(
                "KEY_PEPPER is another one than the backup was written under: every bearer key will be refused. Set "
                "the former one, or add it to KEY_PEPPER_FALLBACKS."
            )
