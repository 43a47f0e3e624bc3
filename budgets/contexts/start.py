"""The start page of a feature: from a key to the first measurement, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from budgets import formats
from budgets.arrivals import Arrivals, Received, latest_arrivals
from budgets.models import Feature, IngestKey, Membership, Milestone, Status
from budgets.snippets import curl_first_measurement, example_of, python_first_measurement

from .frame import page_url
from .parts import milestone_name

SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class ReceivedLine:
    """A measurement in words: what came, and how it was judged. `word` is said beside the icon of `state`."""

    state: str
    word: str
    what: str
    judged: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """The region that waits, and turns into what arrived. `state` is waiting, ok, breached, no_data or rejected."""

    state: str
    lead: str
    title: str
    arrivals: Arrivals
    lines: list[ReceivedLine]
    feature_url: str

    @property
    def has_arrived(self) -> bool:
        return self.arrivals.was_measured

    @property
    def more(self) -> int:
        """How many measurements came with those that are shown."""
        return self.arrivals.count - len(self.lines)


@dataclass(frozen=True, slots=True)
class Send:
    """How the first measurement is sent: with the key filled in, or with $KEY where it is not known."""

    has_key: bool
    curl: str
    python: str


def arrival_of(feature: Feature, now: datetime) -> Arrival:
    """What was received or rejected of the feature last."""
    return arrival(feature, latest_arrivals(feature, now))


def arrival(feature: Feature, arrivals: Arrivals) -> Arrival:
    """The region for what came; it asks the database nothing."""
    lines = [_line(one) for one in arrivals.received]
    environment = arrivals.received[0].environment if arrivals.received else None
    milestone = next((one.milestone for one in arrivals.received if one.milestone), None)
    url = page_url("feature", feature.slug, milestone=milestone, environment=environment)
    if arrivals.rejected:
        state = "rejected"
        lead = f"Rejected: {arrivals.rejected[0].message}"
    elif lines:
        state = lines[0].state
        lead = f"Received {lines[0].what} – {lines[0].judged}"
    elif arrivals.was_measured:
        state, lead = "no_data", "Measured before: what came last lies further back than this page looks."
    else:
        state, lead = "waiting", f"Waiting for the first measurement{formats.NBSP}…"
    icon = {"ok": "✓ ", "breached": "✕ ", "rejected": "✕ "}.get(state, "")
    said = lead if state in ("waiting", "rejected") else "Received"
    title = f"{icon}{said if len(said) < 60 else 'Rejected'} – {feature.name}"
    return Arrival(state, lead, title, arrivals, lines, url)


def send_of(feature: Feature, *, base: str, token: str, now: datetime) -> Send:
    example = example_of(feature, now)
    return Send(
        has_key=bool(token),
        curl=curl_first_measurement(example, base=base, token=token),
        python=python_first_measurement(example, base=base, token=token),
    )


def sending_keys(feature: Feature, now: datetime) -> list[IngestKey]:
    """The team's keys that can send measurements, the latest used first."""
    keys = [
        key
        for key in feature.team.ingest_keys.order_by("-last_used_at", "-pk")
        if key.is_usable(now) and IngestKey.Scope.INGEST in key.scopes
    ]
    return sorted(keys, key=lambda key: key.last_used_at is None)


def admins_of(feature: Feature) -> list[str]:
    """Who makes the team's keys."""
    found = Membership.objects.filter(team=feature.team, role=Membership.Role.ADMIN)
    return list(found.order_by("user__email").values_list("user__email", flat=True)[:SHOWN])


def _line(one: Received) -> ReceivedLine:
    took = formats.duration(one.duration_ms, near=one.limit_ms)
    if one.component is not None:
        subject, kind = f"of {formats.name(one.component)}", "allocation"
    else:
        assert one.milestone is not None, "a measurement is of a component or of a milestone"
        is_first = one.milestone == Milestone.FIRST_TOKEN
        subject, kind = milestone_name(one.milestone).lower() if is_first else "to complete", "latency budget"
    limit = formats.limit(one.limit_ms)
    if one.status == Status.ERROR:
        word, state = "Error", "breached"
        what, judged = f"an error after {took} {subject}", "an error is never good, however fast it was"
    elif one.status == Status.TIMEOUT:
        word, state = "Timeout", "breached"
        what = f"a timeout after {took} {subject}"
        judged = (
            f"over its {kind} of {limit}, as every timeout is" if one.limit_ms else "a timeout is never good"
        )
    else:
        what = f"{took} {subject}"
        if one.limit_ms is None:
            word, state, judged = "Stored", "no_data", f"it has no {kind}, so nothing judges it"
        elif one.is_over:
            word, state, judged = "Over", "breached", f"over its {kind} of {limit}"
        else:
            word, state, judged = "In time", "ok", f"within its {kind} of {limit}"
    return ReceivedLine(state, word, what, judged)
