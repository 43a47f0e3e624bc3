"""The demo's past: bodies for the ingest path, by time, for the 28 days before the first start and for the
gap before every later one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np

from budgets.demo.features import FEATURES, DemoFeature
from budgets.demo.requests import Request, count_measurements, write
from budgets.demo.shapes import Floats, arrivals

SEED = 20_231_116
DAYS = 28  # of the story, and of the history that the first start feeds
MAX_MEASUREMENTS = 10_000
HOUR_S = 3600
# Traffic grows into the live rate over the last hours, so that the charts have no step at "now".
RAMP_S = 2 * HOUR_S

_encoder = msgspec.json.Encoder()


class Body(NamedTuple):
    """One POST: its JSON, how many measurements it counts for, and when its last request ended."""

    content: bytes
    measurements: int
    ends_at: datetime


def bodies(since: datetime, now: datetime, *, origin: datetime) -> Iterator[Body]:
    """The requests that ended after ``since`` and not after ``now``, as POST bodies in order of time.

    ``origin`` begins the story, on whose days releases happen: 28 days before the demo's first start. Later
    starts pass the same, so that the story is told once and goes on with its last releases. The same
    arguments give the same bytes.
    """
    start, end, story_start = since.timestamp(), now.timestamp(), origin.timestamp()
    pending: list[Request] = []
    counts: list[int] = []
    ends: list[float] = []
    total = 0
    for hour in range(int(start // HOUR_S), int(end // HOUR_S) + 1):
        in_hour = _requests_of_hour(hour, after=start, until=end, story_start=story_start)
        for request, count, ended_at in in_hour:
            if total + count > MAX_MEASUREMENTS:
                yield _body(pending, counts, ends)
                pending, counts, ends, total = [], [], [], 0
            pending.append(request)
            counts.append(count)
            ends.append(ended_at)
            total += count
    if pending:
        yield _body(pending, counts, ends)


def _body(requests: list[Request], counts: list[int], ends: list[float]) -> Body:
    return Body(_encoder.encode({"requests": requests}), sum(counts), datetime.fromtimestamp(ends[-1], UTC))


def _requests_of_hour(
    hour: int, *, after: float, until: float, story_start: float
) -> Iterator[tuple[Request, int, float]]:
    """The requests of all features that ended in (after, until] of an hour, in that order, with the count of
    their measurements."""
    requests: list[Request] = []
    counts, ends = [], []
    for index, feature in enumerate(FEATURES):
        # The end is part of the seed, so that filling a gap in an hour does not repeat its trace ids.
        rng = np.random.default_rng([SEED, index, hour, int(until)])
        ended_at = _ends(rng, feature, hour, until)
        ended_at = ended_at[(ended_at > after) & (ended_at <= until)]
        if not len(ended_at):
            continue
        release = feature.release_on((hour * HOUR_S - story_start) / 86_400)
        drawn = feature.draw(rng, len(ended_at), release.slowdowns)
        requests += write(feature.slug, release.name, drawn, ended_at, rng)
        counts.append(count_measurements(drawn))
        ends.append(ended_at)
    if not requests:
        return
    count, ended_at = np.concatenate(counts), np.concatenate(ends)
    order = np.argsort(ended_at, kind="stable").tolist()
    in_order = [requests[position] for position in order]
    yield from zip(in_order, count[order].tolist(), ended_at[order].tolist(), strict=True)


def _ends(rng: np.random.Generator, feature: DemoFeature, hour: int, until: float) -> Floats:
    """When the requests of an hour ended, in Unix seconds: real minutes under a rhythm of day and week."""
    minutes = hour * HOUR_S + 60.0 * np.arange(60)
    nearness = np.exp(-np.maximum(until - minutes, 0) / RAMP_S)
    rate = feature.history_rate * feature.rhythm(hour) * (1 - nearness) + feature.live_rate * nearness
    counts = rng.poisson(rate * arrivals(feature.arrivals, hour))
    ended_at: Floats = np.repeat(minutes, counts) + rng.uniform(0, 60, counts.sum())
    return ended_at
