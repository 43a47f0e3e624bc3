"""Why somebody was told of an incident, or nobody was: its page answers from what was written down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from alerts import telling
from alerts.escalation import FLAPPING_EVERY, REPEAT_EVERY, Policy
from alerts.models import FollowUp, Incident, IncidentEvent, Notification
from alerts.notifications import OPENINGS

Kind = IncidentEvent.Kind


@dataclass(frozen=True)
class Reached:
    """One message and the reason why it went to its channel."""

    notification: Notification
    because: str


@dataclass(frozen=True)
class LeftOut:
    name: str
    because: str


@dataclass(frozen=True)
class Telling:
    """A step of the incident that was to be told."""

    at: datetime
    heading: str
    is_opening: bool
    """Whether it told that somebody must look, rather than what became of it."""
    held_by: str = ""
    held_until: datetime | None = None
    reached: Sequence[Reached] = ()
    left_out: Sequence[LeftOut] = ()

    @property
    def held_because(self) -> str:
        """What held it back, as the end of a sentence."""
        if self.held_by == telling.FLAPPING:
            return f"Held back, because {telling.FLAPPING}"
        return f"Held back by {self.held_by}"

    @property
    def is_nobody(self) -> bool:
        return not self.reached and not self.held_by


@dataclass(frozen=True)
class Coming:
    """What the clock will do if nothing else happens; `at` stands behind the text."""

    text: str
    at: datetime | None = None


@dataclass(frozen=True)
class Tellings:
    past: Sequence[Telling] = ()
    coming: Sequence[Coming] = field(default_factory=list)


def tellings(incident: Incident, events: Iterable[IncidentEvent]) -> Tellings:
    """Reads the incident's notifications, attempts and follow-up."""
    notifications = {
        one.pk: one
        for one in incident.notifications.select_related("channel")
        .prefetch_related("attempts")
        .order_by("id")
    }
    past = [_telling(event, notifications) for event in events if event.kind == Kind.TOLD]
    known = {one.notification.pk for telling in past for one in telling.reached}
    # Written before the reasons were.
    rest = [Reached(one, one.because) for pk, one in notifications.items() if pk not in known]
    if rest:
        past.insert(0, Telling(rest[0].notification.created_at, "Told", is_opening=True, reached=rest))
    follow_up = FollowUp.objects.filter(incident=incident).first()
    return Tellings(
        past=past,
        coming=_coming(incident, follow_up) if follow_up else [],
    )


def _telling(event: IncidentEvent, notifications: dict[int, Notification]) -> Telling:
    details: dict[str, Any] = event.details
    until = details.get("until")
    heading = str(Notification.Event(event.reason).label)
    if "step" in details:
        times = f", round {details['round']}" if details["round"] > 1 else ""
        heading = f"{heading}: step {details['step']} of {details['policy']}{times}"
    return Telling(
        at=event.at,
        heading=heading,
        is_opening=event.reason in OPENINGS,
        held_by=details.get("held_by", ""),
        held_until=datetime.fromisoformat(until) if until else None,
        reached=[
            Reached(notifications[one["notification"]], one["because"])
            for one in details.get("told", [])
            if one.get("notification") in notifications
        ],
        left_out=[LeftOut(one["name"], one["because"]) for one in details.get("left_out", [])],
    )


def _coming(incident: Incident, follow_up: FollowUp) -> list[Coming]:
    if incident.state == Incident.State.RESOLVED:
        if follow_up.news_at and follow_up.told_at:
            return [
                Coming(
                    "It comes and goes. Its end is told, if it stays over,",
                    follow_up.told_at + FLAPPING_EVERY,
                )
            ]
        return []
    if follow_up.held_since is not None:
        what = (
            "It is told"
            if follow_up.held_by == telling.FLAPPING
            else f"Held back by {follow_up.held_by}. It is looked at again"
        )
        return [Coming(f"{what}, if it is still open,", follow_up.next_at)]
    if incident.state == Incident.State.OPEN and follow_up.told_at is None:
        return [Coming("Nobody could be told. Who can be by then is told,", follow_up.next_at)]
    policy = Policy.read(follow_up.policy) if follow_up.policy else None
    if incident.state == Incident.State.ACKNOWLEDGED:
        return _while_acknowledged(follow_up, policy)
    coming = []
    if policy and follow_up.next_step_at:
        names = ", ".join(one.name for one in policy.steps[follow_up.step].notify)
        coming.append(
            Coming(
                f"Step {follow_up.step + 1} of {policy.name} ({names}), unless somebody acknowledges it,",
                follow_up.next_step_at,
            )
        )
    if follow_up.told_at:
        coming.append(
            Coming(
                "Whoever was told is told again, while nobody acknowledges it,",
                follow_up.told_at + REPEAT_EVERY,
            )
        )
    return coming


def _while_acknowledged(follow_up: FollowUp, policy: Policy | None) -> list[Coming]:
    if policy is None or follow_up.heard_at is None:
        return []
    coming = []
    if policy.remind_every:
        last = max(follow_up.heard_at, follow_up.told_at or follow_up.heard_at)
        coming.append(Coming("Who acknowledged it is reminded", last + policy.remind_every))
    if policy.unacknowledge_after:
        coming.append(
            Coming(
                "Without a word from who acknowledged it, it is open again",
                follow_up.heard_at + policy.unacknowledge_after,
            )
        )
    return coming
