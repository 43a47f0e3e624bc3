"""Makes what teams declare what YAML files say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from latency_dashboard.declarations import core_yaml
from latency_dashboard.declarations.apply import Applied, apply
from latency_dashboard.declarations.envelopes import (
    Declaration,
    NotApplied,
    Problem,
    read_declarations,
)

CHANGES_PENDING = 3


class Command(BaseCommand):
    help = (
        "Makes features, channels, schedules and the like what YAML documents say: all of them, or nothing where one is wrong. "
        "The same files again change nothing; what no document names stays as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a YAML file; - is standard input")
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would change, and change nothing"
        )
        parser.add_argument(
            "--exit-code",
            action="store_true",
            help=f"with --dry-run: leave with {CHANGES_PENDING} where something would change",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["exit_code"] and not options["dry_run"]:
            raise CommandError("--exit-code goes with --dry-run.")
        try:
            applied = apply(
                _read(options["files"]),
                environment=os.environ,
                is_dry_run=options["dry_run"],
                actor="manage.py apply",
                now=timezone.now(),
            )
        except NotApplied as error:
            raise CommandError(f"{error}\nNothing was changed.") from error
        self._tell(applied, options["dry_run"])
        if options["exit_code"] and applied.is_changed:
            sys.exit(CHANGES_PENDING)

    def _tell(self, applied: Applied, is_dry_run: bool) -> None:
        for slug in applied.new_teams:
            self.stdout.write(f"Team {slug}: new")
        for outcome in applied.outcomes:
            if outcome.diff:
                self.stdout.write(outcome.diff, ending="")
            became = "new" if outcome.is_created else "changed" if outcome.is_changed else "unchanged"
            self.stdout.write(f"{outcome.declaration.subject}: {became}")
            if outcome.remark:
                self.stdout.write(f"  {outcome.remark}")
        changed = sum(outcome.is_changed for outcome in applied.outcomes)
        verb = "would change" if is_dry_run else "changed"
        self.stdout.write(f"{changed} of {len(applied.outcomes)} documents {verb}.")


def _read(names: list[str]) -> list[Declaration]:
    """The declarations of all files. Raises NotApplied with what is wrong in any of them."""
    declarations: list[Declaration] = []
    problems: list[Problem] = []
    for name in names:
        try:
            data = _content(name)
        except OSError as error:
            problems.append(Problem(name, f"The file cannot be read: {error.strerror}."))
            continue
        found, wrong = read_declarations("standard input" if name == "-" else name, data)
        declarations += found
        problems += wrong
        if not found and not wrong:
            problems.append(Problem(name, "The file holds no document."))
    if problems:
        raise NotApplied(problems)
    return declarations


def _content(name: str) -> bytes:
    """The content of a file; of one without end a little more than is taken."""
    if name == "-":
        return sys.stdin.buffer.read(core_yaml.MAX_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(core_yaml.MAX_BYTES + 1)
