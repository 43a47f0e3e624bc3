"""The demo's present: the requests that end from one instant to another, and one accident among them.

In minute 2 a deploy gives support-chat's new search to three of five requests, and until it is rolled back in
minute 6 each of these waits 700 ms longer for its tools: such a call is over its allocation of 800 ms, while nearly
every first token still comes within 3 s. So the component is reported before users notice, with the label that its
slow calls share; the milestone's error budget is hardly touched, and no page goes out.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np

from budgets.demo.features import FEATURES, SUPPORT_CHAT
from budgets.demo.history import SEED
from budgets.demo.requests import Request, write
from budgets.demo.shapes import NEW_SEARCH, NEW_SEARCH_RATIO, Slowdown, arrivals

OVERRUN_FROM = timedelta(minutes=2)
OVERRUN_UNTIL = timedelta(minutes=6)
OVERRUN_FEATURE = SUPPORT_CHAT
OVERRUN_COMPONENT = "tools"
OVERRUN_MS = 700.0  # longer a call
OVERRUN_RATIO = 0.6  # of the requests use the new search meanwhile


class LiveTraffic:
    """Traffic that depends on the wall clock's minute and, for the accident, on when it was started."""

    def __init__(self, started_at: datetime) -> None:
        self.overrun_from = (started_at + OVERRUN_FROM).timestamp()
        self.overrun_until = (started_at + OVERRUN_UNTIL).timestamp()
        self._minute = lru_cache(maxsize=4)(self._draw_minute)

    def requests(self, since: datetime, until: datetime) -> list[Request]:
        """The requests of all features that end at or after ``since`` and before ``until``, in that order."""
        start, end = since.timestamp(), until.timestamp()
        minutes = range(int(start // 60), int(np.ceil(end / 60)))
        return [request for minute in minutes for at, request in self._minute(minute) if start <= at < end]

    def deploys(self, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """The deploys at or after ``since`` and before ``until``, as annotations of the API."""
        texts = {
            self.overrun_from: f"{NEW_SEARCH} for {OVERRUN_RATIO:.0%} of requests".replace("%", " %"),
            self.overrun_until: f"{NEW_SEARCH} back to {NEW_SEARCH_RATIO:.0%} of requests".replace("%", " %"),
        }
        return [
            {"kind": "deploy", "text": text, "feature": OVERRUN_FEATURE.slug, "at": at}
            for at, text in texts.items()
            if since.timestamp() <= at < until.timestamp()
        ]

    def _draw_minute(self, minute: int) -> list[tuple[float, Request]]:
        ended: list[tuple[float, Request]] = []
        for index, feature in enumerate(FEATURES):
            rng = np.random.default_rng([SEED, index, minute])
            rate = feature.live_rate * arrivals(feature.arrivals, minute // 60)[minute % 60]
            ended_at = minute * 60.0 + np.sort(rng.uniform(0, 60, rng.poisson(rate)))
            release = feature.newest_release
            slowdowns = dict(release.slowdowns)
            if feature is OVERRUN_FEATURE:
                overruns = (ended_at >= self.overrun_from) & (ended_at < self.overrun_until)
                slowdowns[OVERRUN_COMPONENT] = Slowdown(
                    plus_ms=np.where(overruns, OVERRUN_MS, 0.0),
                    new_search=np.where(overruns, OVERRUN_RATIO, NEW_SEARCH_RATIO),
                )
            drawn = feature.draw(rng, len(ended_at), slowdowns)
            requests = write(feature.slug, release.name, drawn, ended_at, rng)
            ended += zip(ended_at.tolist(), requests, strict=True)
        return sorted(ended, key=lambda pair: pair[0])
