"""Recomputes rollups from raw measurements, or checks that they equal such a recomputation."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from budgets.api.instants import read_instant
from budgets.errors import Refusal
from budgets.rebuild import rebuild


class Command(BaseCommand):
    help = "Rebuilds the rollups of a range from raw measurements. With --check changes nothing and compares."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="start", required=True, help="RFC 3339; widened to the whole hour")
        parser.add_argument("--to", dest="end", required=True, help="RFC 3339; widened to the whole hour")
        parser.add_argument(
            "--check", action="store_true", help="compare only; exit 1 where something differs"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            start, end = read_instant("--from", options["start"]), read_instant("--to", options["end"])
            if end <= start:
                raise Refusal("invalid_range", "--to must come after --from.")
            result = rebuild(start=start, end=end, now=timezone.now(), only_check=options["check"])
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        if not options["check"]:
            self.stdout.write(f"Rebuilt {result.minutes} minute rollups and the hours and days above them.")
            return
        for difference in result.differences:
            self.stdout.write(difference)
        self.stdout.write(f"{result.minutes} minute rollups compared, {len(result.differences)} differences.")
        if result.differences:
            sys.exit(1)
