"""How long after a POST's answer its measurements are rolled up, and the webhook of its incident arrives.

All of the product runs as `make serve` runs it, with default settings. Each try has a feature of its own,
which one POST of requests tips from nothing measured to a burning error budget: an incident opens, and a
signed webhook that names the component at fault arrives at a server in this process.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg

from tests.receivers import WebhookReceiver

from .api import Api
from .bench import TEAM, Bench
from .report import Aim, Figure, Section, percentile
from .stack import connect
from .traffic import RELEASE, feature_document

AIM_P95_S = 2.0
REQUESTS_A_TRY = 30
CULPRIT = "tools"

_LOST_AFTER_S = 20.0
_POLL_S = 0.005
# So that tries begin at any moment between two sweeps.
_LONGEST_PAUSE_S = 1.0

_Found = TypeVar("_Found")


class TryError(Exception):
    """What a try waited for did not come, or was not what it should be."""


def run(bench: Bench) -> Section:
    """Opens one incident after another."""
    tries, rng = bench.scale.delay_tries, random.Random(1)
    rolled_up_s, arrived_s = [], []
    with bench.served(OUTBOUND_ALLOWED_CIDRS="127.0.0.0/8") as served, WebhookReceiver() as receiver:
        token = served.make_key(TEAM, "ingest", "read", "write")
        bench.say("delay: the product is up")
        with closing(Api(served.port, token)) as api, connect(served.data_dir) as database:
            api.call("PUT", "channels/benchmark", {"kind": "webhook", "url": receiver.url})
            for number in range(tries):
                feature = f"feature-{number}"
                api.call("PUT", f"features/{feature}", feature_document(feature))
                time.sleep(rng.uniform(0, _LONGEST_PAUSE_S))
                rolled_up, arrived = _try(feature, api, receiver, database)
                rolled_up_s.append(rolled_up)
                arrived_s.append(arrived)
                if (number + 1) % 10 == 0:
                    bench.say(f"delay: {number + 1} of {tries} webhooks arrived")
    return _section(rolled_up_s, arrived_s)


def _try(
    feature: str, api: Api, receiver: WebhookReceiver, database: psycopg.Connection[Any]
) -> tuple[float, float]:
    """Seconds from a POST's answer until its batch is rolled up, and until the webhook is there.

    Raises TryError where either does not come, the webhook does not name the component at fault, or the
    status does not count what was posted.
    """
    api.call("POST", "measurements", _slow_requests(feature))
    answered_s = time.monotonic()
    _wait_for("the roll-up", lambda: _is_rolled_up(database))
    rolled_up_s = time.monotonic() - answered_s

    def arrival() -> tuple[dict[str, Any], float] | None:
        for request in receiver.requests:
            incident = request.json()["data"]["incident"]
            if incident["feature"] == feature:
                return incident, request.arrived_s
        return None

    incident, arrived_s = _wait_for("the webhook", arrival)
    cause = (incident["cause"] or {}).get("component")
    if cause != CULPRIT:
        raise TryError(f"The webhook of {feature} names {cause} as the cause, expected {CULPRIT}.")
    status = api.call("GET", f"features/{feature}/status?milestone=first_token")
    if (status["total"], status["bad"]) != (REQUESTS_A_TRY, REQUESTS_A_TRY):
        raise TryError(
            f"{status['bad']} of {status['total']} are bad in {feature}, expected all of {REQUESTS_A_TRY}."
        )
    return rolled_up_s, arrived_s - answered_s


def _slow_requests(feature: str) -> dict[str, Any]:
    """A body of requests that all miss the first token's latency budget, because of one component."""
    now = datetime.now(tz=UTC)
    components = [("model", 1200.0), ("retrieval", 250.0), (CULPRIT, 2600.0), ("overhead", 150.0)]
    return {
        "requests": [
            {
                "feature": feature,
                "trace_id": secrets.token_hex(16),
                "started_at": (now - timedelta(seconds=6 + number / 10)).isoformat(),
                "release": RELEASE,
                "milestones": {"first_token": 4200.0, "complete": 5600.0},
                "components": [{"component": name, "duration_ms": ms} for name, ms in components],
            }
            for number in range(REQUESTS_A_TRY)
        ]
    }


def _is_rolled_up(database: psycopg.Connection[Any]) -> bool:
    """Whether the batch that was stored last is rolled up: from that commit on every answer counts it."""
    row = database.execute("SELECT state FROM budgets_batch ORDER BY id DESC LIMIT 1").fetchone()
    return row is not None and row[0] == "rolled_up"


def _wait_for(what: str, look: Callable[[], _Found | None]) -> _Found:
    deadline = time.monotonic() + _LOST_AFTER_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TryError(f"{_LOST_AFTER_S:g} s after a POST's answer there was no sign of {what}.")
        time.sleep(_POLL_S)
    return found


def _section(rolled_up_s: Sequence[float], arrived_s: Sequence[float]) -> Section:
    rows = {"rolled up": rolled_up_s, "webhook arrived": arrived_s}
    return Section(
        title=f"Delay: from a POST's answer until … ({len(arrived_s)} tries, one after the other)",
        rows={
            label: {
                "p50": Figure(percentile(samples, 50), "s"),
                "p95": Figure(percentile(samples, 95), "s", samples),
                "longest": Figure(max(samples), "s"),
            }
            for label, samples in rows.items()
        },
        aims=[
            Aim(f"{label}, p95", percentile(samples, 95), "<", AIM_P95_S, "s")
            for label, samples in rows.items()
        ],
    )
