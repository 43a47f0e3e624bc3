"""Writes what teams declare as YAML that `apply` takes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from budgets.models import Feature, Team
from latency_dashboard.declarations import core_yaml
from latency_dashboard.declarations.export import export


class Command(BaseCommand):
    help = (
        "Writes what teams declare to standard output as YAML that `apply` takes, and that changes nothing. "
        "Signing secrets are left out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--team", metavar="SLUG", help="only what this team has")
        parser.add_argument("--feature", metavar="SLUG", help="only this feature and its rules")

    def handle(self, *args: Any, **options: Any) -> None:
        teams = Team.objects.order_by("slug")
        if options["team"] is not None:
            teams = teams.filter(slug=options["team"])
            if not teams:
                raise CommandError(f"There is no team {options['team']!r}.")
        feature = options["feature"]
        if feature is not None and not Feature.objects.filter(team__in=teams, slug=feature).exists():
            of = f" in team {options['team']!r}" if options["team"] else ""
            raise CommandError(f"There is no feature {feature!r}{of}.")
        documents = list(export(teams, feature=feature))
        self.stdout.write(core_yaml.write(documents) if documents else "# Nothing is declared.\n", ending="")
