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
from alerts.silences import Hold

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
    is_end: bool = False
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


def tellings(incident: Incident, events: Iterable[IncidentEvent], *, hold: Hold | None) -> Tellings:
    """Reads the incident's notifications, attempts and follow-up. `hold` is what holds its messages back now."""
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
        coming=_coming(incident, follow_up, past, hold) if follow_up else [],
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
        is_end=event.reason == Notification.Event.RESOLVED,
        held_by=details.get("held_by", ""),
        held_until=datetime.fromisoformat(until) if until else None,
        reached=[
            Reached(notifications[one["notification"]], one["because"])
            for one in details.get("told", [])
            if one.get("notification") in notifications
        ],
        left_out=[LeftOut(one["name"], one["because"]) for one in details.get("left_out", [])],
    )


def _coming(
    incident: Incident, follow_up: FollowUp, past: Sequence[Telling], hold: Hold | None
) -> list[Coming]:
    if incident.state == Incident.State.RESOLVED:
        if follow_up.news_at and follow_up.told_at:
            return [
                Coming(
                    "It comes and goes. Its end is told, if it stays over,",
                    follow_up.told_at + FLAPPING_EVERY,
                )
            ]
        return []
    policy = Policy.read(follow_up.policy) if follow_up.policy else None
    if incident.state == Incident.State.ACKNOWLEDGED:
        return _while_acknowledged(follow_up, policy, hold)
    if hold is not None:
        return [_when_it_ends(follow_up, policy, past, hold)]
    if follow_up.held_since is not None:
        is_flapping = follow_up.held_by == telling.FLAPPING
        what = "It is told" if is_flapping else "Nothing holds it back any more. It is told"
        return [Coming(f"{what}, if it is still open,", follow_up.next_at)]
    if follow_up.told_at is None:
        return [Coming("Nobody could be told. Who can be by then is told,", follow_up.next_at)]
    coming = []
    if policy and follow_up.next_step_at:
        coming.append(
            Coming(
                f"{_step(follow_up, policy)}, unless somebody acknowledges it,",
                follow_up.next_step_at,
            )
        )
    if _is_on_its_way(past):
        again = "Whoever was told is told again, while nobody acknowledges it,"
    else:
        again = "No message arrived. It is told anew, while nobody acknowledges it,"
    coming.append(Coming(again, follow_up.told_at + REPEAT_EVERY))
    return coming


def _when_it_ends(follow_up: FollowUp, policy: Policy | None, past: Sequence[Telling], hold: Hold) -> Coming:
    """What a silence or a maintenance window lets go, of an incident that is still open then."""
    openings = [one for one in past if one.is_opening]
    if not openings or not openings[-1].reached:
        what = "it is told"
    elif policy and follow_up.next_step_at and follow_up.next_step_at <= hold.until:
        step = _step(follow_up, policy)
        what = f"{step[:1].lower()}{step[1:]} is taken"
    else:
        what = "whoever was told hears that it is still open"
    return Coming(
        f"Nothing is told while {hold.text} holds it back. If nobody has acknowledged it by then, {what}",
        hold.until,
    )


def _step(follow_up: FollowUp, policy: Policy) -> str:
    names = ", ".join(one.name for one in policy.steps[follow_up.step].notify)
    return f"Step {follow_up.step + 1} of {policy.name} ({names})"


def _is_on_its_way(past: Sequence[Telling]) -> bool:
    """Whether an opening was delivered, or may yet be."""
    live = (Notification.State.PENDING, Notification.State.DELIVERED)
    return any(
        one.notification.state in live for telling_ in past if telling_.is_opening for one in telling_.reached
    )


def _while_acknowledged(follow_up: FollowUp, policy: Policy | None, hold: Hold | None) -> list[Coming]:
    coming = []
    if hold is not None:
        coming.append(Coming(f"Nothing is told while {hold.text} holds it back, until", hold.until))
    if policy is None or follow_up.heard_at is None:
        return coming

    def not_held(at: datetime) -> datetime:
        return max(at, hold.until) if hold is not None else at

    if policy.remind_every:
        last = max(follow_up.heard_at, follow_up.told_at or follow_up.heard_at)
        coming.append(Coming("Who acknowledged it is reminded", not_held(last + policy.remind_every)))
    if policy.unacknowledge_after:
        coming.append(
            Coming(
                "Without a word from who acknowledged it, it is open again",
                not_held(follow_up.heard_at + policy.unacknowledge_after),
            )
        )
    return coming
