"""Discards batches of wrong measurements and rebuilds what they touched."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from budgets import discard
from budgets.api.instants import read_instant
from budgets.errors import Refusal
from budgets.models import Batch, IngestKey, Team

ACTOR = "manage.py discard_batches"


class Command(BaseCommand):
    help = (
        "Discards batches of a team for good, by their ids or a key's of a range of receipt, "
        "and rebuilds every rollup that they touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", required=True, help="the team's slug")
        parser.add_argument(
            "--batch", type=int, action="append", help="a batch's id; may be given several times"
        )
        parser.add_argument("--key", help="the prefix of the key that they were sent with, e.g. k3yPr3fx")
        parser.add_argument("--from", dest="start", help="received at this instant or later, RFC 3339")
        parser.add_argument("--to", dest="end", help="received before this instant, RFC 3339")
        parser.add_argument("--reason", default="", help="why; the audit log keeps it")
        parser.add_argument("--dry-run", action="store_true", help="say how much it is and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._discard(options)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal

    def _discard(self, options: dict[str, Any]) -> None:
        is_range = options["key"] and options["start"] and options["end"]
        if bool(options["batch"]) == bool(is_range) or (options["batch"] and options["key"]):
            raise CommandError(
                "Say which: either --batch, once for each, or --key with --from and --to. Nothing was discarded."
            )
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"There is no team {options['team']!r}. Nothing was discarded.")
        key = None
        if options["key"]:
            key = IngestKey.objects.filter(team=team, prefix=options["key"]).first()
            if key is None:
                raise CommandError(
                    f"Team {team.slug!r} has no key with the prefix {options['key']!r}. Nothing was discarded."
                )
        batches = discard.discardable(
            team,
            batch_ids=options["batch"],
            key=key,
            received_from=read_instant("--from", options["start"]) if options["start"] else None,
            received_to=read_instant("--to", options["end"]) if options["end"] else None,
        )
        if options["dry_run"]:
            self._say("Would discard", discard.extent(batches))
            return
        self._say(
            "Discarded",
            discard.discard(
                team=team, batches=batches, reason=options["reason"], actor=ACTOR, now=timezone.now()
            ),
        )
        while Batch.objects.filter(state=Batch.State.DISCARDING).exists():
            discard.finish_discards(now=timezone.now())
        self.stdout.write("The rollups that they touched are rebuilt.")

    def _say(self, verb: str, found: discard.Extent) -> None:
        of = f" of {', '.join(found.feature_slugs)}" if found.feature_slugs else ""
        self.stdout.write(f"{verb} {found}{of}.")
