"""Writes everything in the database to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from latency_dashboard.backup import BackupError, back_up


class Command(BaseCommand):
    help = (
        "Writes everything in the database at this moment to a new file, while the service runs. The file holds "
        "secrets of channels and hashes of passwords and keys. SECRET_KEY and KEY_PEPPER are not in it: keep them apart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="the file to make, or - for standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        is_stream = options["file"] == "-"
        try:
            if is_stream:
                done = back_up(None, sys.stdout.buffer, now=timezone.now())
            else:
                done = back_up(Path(options["file"]), now=timezone.now())
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        # Not among the bytes of the backup.
        said = self.stderr if is_stream else self.stdout
        said.write(
            f"Backed up {done.total} rows of {len(done.rows)} tables, as of {done.taken_at:%Y-%m-%d %H:%M:%S} UTC."
        )
