"""Posts recorded request times through the HTTP API, as if they happened."""

import argparse
import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from budgets import replay
from budgets.client import ApiClient, RefusedError, UnreachableError
from budgets.errors import Refusal
from budgets.keys import create_key
from budgets.models import Feature, IngestKey
from budgets.replay import Recording

KEY_VARIABLE = "LATENCY_DASHBOARD_KEY"
TEAM = "replay"
OWN_KEY_LASTS = timedelta(days=1)
MAX_MEASUREMENTS = 5_000  # half of what a body may hold
EVERY_S = 0.25  # at a given speed, what has ended is posted this often
MAX_AHEAD = timedelta(seconds=60)  # what ends later than this after its receipt is rejected
PATIENCE_S = 120.0  # how long a busy or absent server is waited for

Item = dict[str, Any]


class Command(BaseCommand):
    help = (
        "Replays files of request times through the HTTP API: llmperf's JSON (first token and total) and "
        "delag's CSV (total and the nested calls of a request), recognised by their content. Each file "
        "becomes a release of its feature. Exit code 1 when something was rejected."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        local = f"http://127.0.0.1:{settings.PORT}"
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--url", help=f"address of the server (default: this one, {local})")
        parser.add_argument(
            "--key",
            default=os.environ.get(KEY_VARIABLE),
            help="bearer key with the scope ingest, and read and write to declare the feature (default: "
            f"${KEY_VARIABLE}; without either, a key for a day is made on this server)",
        )
        parser.add_argument("--feature", help="slug (default: llmperf, or delag- and the name of the folder)")
        parser.add_argument("--team", help=f"team of a new feature (default: the key's, or {TEAM})")
        parser.add_argument(
            "--rate",
            type=_positive,
            default=5.0,
            help="requests a second in the recording, as the files hold no instants (default: %(default)g)",
        )
        parser.add_argument(
            "--speed",
            type=_speed,
            default=0.0,
            help="how fast to post it: 1 is real time, 10 is ten times that, 0 or max is as fast as it is "
            "taken (default: max)",
        )
        parser.add_argument(
            "--start",
            type=_instant,
            help="when the first request started, RFC 3339 (default: so that the last ends as it is posted)",
        )

    def handle(
        self,
        *,
        files: list[Path],
        url: str | None,
        key: str | None,
        feature: str | None,
        team: str | None,
        rate: float,
        speed: float,
        start: datetime | None,
        **options: Any,
    ) -> None:
        now = timezone.now()
        if url and not key:
            raise CommandError(f"Give --key or ${KEY_VARIABLE} for the server at {url}.")
        try:
            recordings = [replay.read(path) for path in files]
        except replay.UnreadableError as error:
            raise CommandError(f"{error} Nothing was posted.") from error
        start = _first_start(recordings, rate, speed, start, now)
        by_feature: dict[str, list[Recording]] = {}
        for recording in recordings:
            by_feature.setdefault(feature or recording.feature, []).append(recording)
        try:
            key = key or _own_key(by_feature, team, now)
            client = ApiClient(url or f"http://127.0.0.1:{settings.PORT}", key)
        except ValueError as error:
            raise CommandError(f"--url: {error}.") from error
        posting = Posting(client)
        try:
            for slug, its_recordings in by_feature.items():
                self._declare(client, slug, its_recordings, team)
            items = replay.requests(recordings, start=start.timestamp(), rate=rate, feature=feature)
            bodies = _bodies(items) if speed == 0 else _bodies_in_time(items, speed, start, now)
            total = sum(len(recording.requests) for recording in recordings)
            with tqdm(total=total, unit=" requests", disable=None) as progress:
                for body in bodies:
                    posting.post(body)
                    progress.update(len(body))
        except UnreachableError as error:
            raise CommandError(f"{error}. {posting.summary()}") from error
        except RefusedError as refused:
            raise CommandError(f"The server refused it: {refused} {posting.summary()}") from refused
        except KeyboardInterrupt:
            raise CommandError(f"Stopped. {posting.summary()}", returncode=130) from None
        finally:
            client.close()
        self._report(posting, by_feature)

    def _declare(
        self, client: ApiClient, slug: str, recordings: Sequence[Recording], team: str | None
    ) -> None:
        """Declares the feature, or adds the components that it lacks. Its latency budgets are left alone."""
        document = replay.declaration(recordings, feature=slug)
        try:
            declared = client.get_feature(slug)
            if declared is None:
                client.put_feature(slug, document | ({"team": team} if team else {}))
                self.stdout.write(f"Declared {slug} with {len(document['components'])} components.")
                return
            missing = [name for name in document["components"] if name not in declared["components"]]
            if missing:
                client.put_feature(slug, declared | {"components": declared["components"] + missing})
                self.stdout.write(f"Added {len(missing)} components to {slug}: {', '.join(missing)}.")
        except RefusedError as refused:
            if refused.status != 403:
                raise
            raise CommandError(
                f"This key may neither see nor change whether {slug} is declared as the files need it. "
                "Give one with the scopes ingest, read and write. Nothing was posted."
            ) from refused

    def _report(self, posting: "Posting", by_feature: dict[str, list[Recording]]) -> None:
        self.stdout.write(posting.summary())
        if any(one.format == replay.DELAG for recordings in by_feature.values() for one in recordings):
            self.stdout.write("The calls of a delag request are nested: they add up to more than its total.")
        for slug in by_feature:
            self.stdout.write(f"See {posting.client.url}/features/{slug}/")
        if posting.rejected:
            for code, number in posting.rejected.most_common():
                self.stderr.write(f"{number} × {code}, the first: {posting.first_reasons[code]}")
            raise CommandError(f"{posting.rejected.total()} requests were rejected.")


class Posting:
    """Posts bodies and counts what became of them."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.first_reasons: dict[str, str] = {}

    def post(self, requests: Sequence[Item]) -> None:
        """Posts requests once. A busy or absent server is asked again, under one idempotency key.

        Raises RefusedError, and UnreachableError when there was no answer for two minutes.
        """
        answer = self._answer(msgspec.json.encode({"requests": requests}))
        self.accepted += answer.get("accepted", 0)
        for item in answer["rejected"]:
            self.rejected[item["code"]] += 1
            self.first_reasons.setdefault(item["code"], item["message"])

    def summary(self) -> str:
        return f"Accepted {self.accepted} measurements, rejected {self.rejected.total()} requests."

    def _answer(self, body: bytes) -> dict[str, Any]:
        idempotency_key = str(uuid.uuid4())
        deadline = time.monotonic() + PATIENCE_S
        while True:
            wait_s = 1.0
            try:
                return self.client.post_measurements(body, idempotency_key=idempotency_key)
            except RefusedError as refused:
                if refused.status == 400 and "rejected" in refused.document:
                    return refused.document
                wait_s = wait_s if refused.retry_after_s is None else refused.retry_after_s
                if not (refused.is_busy or refused.status == 409) or time.monotonic() + wait_s > deadline:
                    raise
            except UnreachableError:
                if time.monotonic() + wait_s > deadline:
                    raise
            time.sleep(wait_s)


def _first_start(
    recordings: Sequence[Recording], rate: float, speed: float, start: datetime | None, now: datetime
) -> datetime:
    """When the first request started. Refuses what would be posted before it has ended."""
    span = timedelta(seconds=replay.last_end_s(recordings, rate))
    posting = span / speed if speed else timedelta(0)
    start = start or now - max(span - posting, timedelta(0))
    # At an even speed one of the two ends is the furthest ahead of its posting.
    ahead = max(start - now, start + span - (now + posting))
    if ahead > MAX_AHEAD:
        raise CommandError(
            f"Some requests would end {ahead.total_seconds():.0f} s after they are posted. "
            "Give an earlier --start, a higher --rate or a lower --speed. Nothing was posted."
        )
    return start


def _own_key(slugs: Iterable[str], team: str | None, now: datetime) -> str:
    """A key on this server for the team that owns the features, or that is to own them."""
    owners = sorted(set(Feature.objects.filter(slug__in=slugs).values_list("team__slug", flat=True)))
    if len(owners) > 1:
        raise CommandError(f"The features belong to {' and '.join(owners)}: replay one team's at a time.")
    try:
        _, plain = create_key(
            team_slug=team or next(iter(owners), TEAM),
            name="replay",
            scopes=list(IngestKey.Scope),
            actor="manage.py replay",
            now=now,
            expires_at=now + OWN_KEY_LASTS,
        )
    except Refusal as refusal:
        raise CommandError(refusal.message) from refusal
    return plain


def _bodies(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Requests in bodies of at most MAX_MEASUREMENTS."""
    body: list[Item] = []
    measurements = 0
    for item in items:
        size = len(item["milestones"]) + len(item["components"])
        if body and measurements + size > MAX_MEASUREMENTS:
            yield body
            body, measurements = [], 0
        body.append(item)
        measurements += size
    if body:
        yield body


def _bodies_in_time(
    items: Iterable[Item], speed: float, start: datetime, now: datetime
) -> Iterator[list[Item]]:
    """Bodies of the requests that have ended meanwhile, at ``speed`` times real time from ``now`` on."""

    def due_s(item: Item) -> float:
        durations = [*item["milestones"].values(), *(call["duration_ms"] for call in item["components"])]
        ends_at: float = item["started_at"] + max(durations) / 1000
        return (ends_at - start.timestamp()) / speed

    in_order = sorted(items, key=due_s)
    for tick, due in itertools.groupby(in_order, key=lambda item: int(due_s(item) / EVERY_S)):
        time.sleep(max(0.0, now.timestamp() + (tick + 1) * EVERY_S - time.time()))
        yield from _bodies(due)


def _positive(text: str) -> float:
    value = _speed(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _speed(text: str) -> float:
    try:
        value = 0.0 if text == "max" else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number ≥ 0, got {text!r}")
    return value


def _instant(text: str) -> datetime:
    try:
        value = parse_datetime(text)
    except ValueError:
        value = None
    if value is None:
        raise argparse.ArgumentTypeError(f"expected an instant like 2026-11-21T20:00:00Z, got {text!r}")
    return value if value.tzinfo else value.replace(tzinfo=UTC)
