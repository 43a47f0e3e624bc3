"""The demo's features and what happened to them until now."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.models import Max, Min
from django.utils import timezone
from tqdm import tqdm

from budgets import doorbell
from budgets.annotations import add_annotation
from budgets.demo.features import FEATURES
from budgets.demo.history import DAYS, bodies
from budgets.demo.key import demo_key
from budgets.errors import Refusal
from budgets.features import declare_feature
from budgets.ingest import accept
from budgets.models import Batch, Feature, IngestKey, Measurement, Series
from budgets.rollups import compact, roll_up

ROLLED_UP_WITHIN_S = 120.0
DEPLOYED_BEFORE = timedelta(minutes=2)


class Command(BaseCommand):
    help = (
        f"Declares the four demo features and feeds {DAYS} days of history through the ingest path. A later "
        "run keeps what is there and fills the gap since the last measurement."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=float, default=DAYS, help="how far back the first run goes (default: %(default)s)"
        )

    def handle(self, *, days: float, **options: Any) -> None:
        now = timezone.now()
        self._check_retention(days)
        key, _ = demo_key(data_dir=Path(settings.DATA_DIR), now=now)
        try:
            declared = declare(key, now)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        if declared:
            self.stdout.write(f"Declared {', '.join(declared)}.")

        # 1. Feed, from the last measurement that is there.
        began = time.monotonic()
        since = last_measured_at(key)
        start = now - timedelta(days=days)
        start = max(since, start) if since else start
        fed = self._feed(key, start=start, now=now)
        self._mark_deploys(key, start=start, now=now)
        fed_s = time.monotonic() - began
        self.stdout.write(f"Fed {fed:,} measurements since {start:%Y-%m-%d %H:%M} UTC in {fed_s:.1f} s.")

        # 2. Roll up what no worker has meanwhile, so that the first page finds all of it.
        began = time.monotonic()
        self._roll_up(key)
        compact(now=timezone.now())
        with connection.cursor() as cursor:
            # So much at once is nothing that PostgreSQL expects: until it has looked by itself, a minute later, it would
            # plan for empty tables.
            cursor.execute("ANALYZE")
        self.stdout.write(f"Rolled up in {time.monotonic() - began:.1f} s.")

    def _check_retention(self, days: float) -> None:
        if days >= settings.RAW_RETENTION_DAYS:
            raise CommandError(
                f"{days:g} days of raw measurements do not fit into RAW_RETENTION_DAYS={settings.RAW_RETENTION_DAYS}: "
                f"set it, and MINUTE_RETENTION_DAYS, to {days + 2:g}, as make demo does, or give fewer --days."
            )

    def _feed(self, key: IngestKey, *, start: datetime, now: datetime) -> int:
        fed = 0
        with tqdm(total=_days(now - start), disable=None, bar_format=PROGRESS) as progress:
            for body in bodies(start, now, origin=_origin()):
                answer = accept(key=key, body=body.content, now=timezone.now())
                if answer.document["rejected"]:
                    raise CommandError(f"The ingest path rejected: {answer.document['rejected'][0]}")
                doorbell.ring()
                fed += body.measurements
                progress.set_postfix_str(f"{fed:,} measurements", refresh=False)
                progress.update(_days(body.ends_at - start) - progress.n)
        return fed

    def _mark_deploys(self, key: IngestKey, *, start: datetime, now: datetime) -> None:
        """The deploys of the story that lie in what was fed, minutes before their releases are measured."""
        story = _origin()
        for feature in FEATURES:
            for release in feature.releases:
                begins = story + timedelta(days=release.from_day)
                # A release is in force from the first whole hour on.
                at = begins + timedelta(seconds=-begins.timestamp() % 3600) - DEPLOYED_BEFORE
                if release.deploy and start <= at <= now:
                    document = {
                        "kind": "deploy",
                        "text": release.deploy,
                        "feature": feature.slug,
                        "at": at.timestamp(),
                    }
                    add_annotation(team=key.team, document=document, actor="demo", now=now)

    def _roll_up(self, key: IngestKey) -> None:
        """Rolls up until nothing of the team is pending, also what a worker has claimed."""
        pending = Batch.objects.filter(team=key.team, state=Batch.State.PENDING)
        deadline = time.monotonic() + ROLLED_UP_WITHIN_S
        while pending.exists():
            if not roll_up(now=timezone.now()).batches:
                time.sleep(0.2)
            if time.monotonic() > deadline:
                raise CommandError(f"{pending.count()} batches are not rolled up yet; a worker will do it.")


PROGRESS = "{l_bar}{bar}| {n:.1f}/{total:.1f} days [{elapsed}<{remaining}{postfix}]"


def _origin() -> datetime:
    """When the story begins: 28 days before the features were declared."""
    declared_at: datetime = Feature.objects.filter(slug__in=slugs()).aggregate(at=Min("created_at"))["at"]
    return declared_at - timedelta(days=DAYS)


def _days(duration: timedelta) -> float:
    return duration / timedelta(days=1)


def slugs() -> list[str]:
    return [feature.slug for feature in FEATURES]


def declare(key: IngestKey, now: datetime) -> list[str]:
    """Declares the demo features that are missing, and leaves alone what people have made of the others."""
    there = set(Feature.objects.filter(slug__in=slugs()).values_list("slug", flat=True))
    missing = [feature for feature in FEATURES if feature.slug not in there]
    for feature in missing:
        declare_feature(
            team=key.team, slug=feature.slug, document=dict(feature.document), actor="demo", now=now
        )
    return [feature.slug for feature in missing]


def last_measured_at(key: IngestKey) -> datetime | None:
    """When the last stored measurement of the demo features ended."""
    series = Series.objects.filter(feature__slug__in=slugs(), feature__team=key.team)
    measured = Measurement.objects.filter(series_id__in=list(series.values_list("pk", flat=True)))
    at: datetime | None = measured.aggregate(at=Max("ended_at"))["at"]
    return at
