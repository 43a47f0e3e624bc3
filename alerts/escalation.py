"""What happens next to an incident that nobody and no rule moves: the clock of everything that is told.

`next_step` looks at where an incident stands and says what is due now and when to look again. It remembers
nothing: what was done is written down by whoever does it, and is the `Standing` of the next question.

In this order, the first that is due:

1. A message that was held back goes out once nothing holds it back any more; the opening that could be told to
   nobody, once somebody can be told.
2. Others are told where every message of the opening was given up; then the next step of the escalation policy,
   while nobody has acknowledged the incident.
3. What became known since somebody was last told, at most every five minutes.
4. That the incident is still open, every four hours while nobody has acknowledged it.
5. A reminder of who acknowledged it, and that nobody has it any more where they have not said anything for long.

An incident that comes and goes (flapping) tells of that at most once an hour, also of its end. What was told escalates
as any other does: nobody has acknowledged it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

UPDATE_EVERY: Final = timedelta(minutes=5)
REPEAT_EVERY: Final = timedelta(hours=4)
FLAPPING_EVERY: Final = timedelta(hours=1)

REOPENS_WITHIN: Final = timedelta(minutes=30)
"""A target in trouble again within so long of its incident's end has the same incident again."""

FLAPS_AFTER: Final = 3
FLAPS_WITHIN: Final = timedelta(hours=6)
"""So many reopenings within so long are a pattern."""

LOOK_AGAIN: Final = timedelta(minutes=1)
"""While something holds a message back, or there is nobody to tell: whoever ends a silence early, or adds a channel,
does not know of the incident."""


class Action(StrEnum):
    """What is due."""

    NOTHING = "nothing"
    RELEASE = "release"
    """Nothing holds back any more: tell what was held."""
    ANNOUNCE = "announce"
    """Nobody has been told yet: tell whoever can be told by now."""
    ESCALATE = "escalate"
    """The policy's next step."""
    REROUTE = "reroute"
    """Everybody who was to be told could not be: others."""
    UPDATE = "update"
    REPEAT = "repeat"
    REMIND = "remind"
    UNACKNOWLEDGE = "unacknowledge"
    END = "end"
    """Tell of the end, which was held back while the incident flapped."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a step notifies: a channel, a schedule or a person, by id; the name is for reading."""

    kind: str
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class PolicyStep:
    notify: tuple[Target, ...]
    wait: timedelta
    """From this step to the next, where nobody acknowledges."""


@dataclass(frozen=True, slots=True)
class Policy:
    """An escalation policy as an incident keeps it."""

    name: str
    steps: tuple[PolicyStep, ...]
    repetitions: int = 0
    remind_every: timedelta | None = None
    unacknowledge_after: timedelta | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Policy:
        """Of what `document` gave."""

        def minutes(name: str) -> timedelta | None:
            value = document.get(name)
            return None if value is None else timedelta(minutes=value)

        return cls(
            name=document["name"],
            steps=tuple(
                PolicyStep(
                    tuple(Target(one["kind"], one["id"], one["name"]) for one in step["notify"]),
                    timedelta(minutes=step["wait_minutes"]),
                )
                for step in document["steps"]
            ),
            repetitions=document.get("repetitions", 0),
            remind_every=minutes("reminder_minutes"),
            unacknowledge_after=minutes("unacknowledge_minutes"),
        )

    def after(self, step: int, round_: int) -> tuple[int, int] | None:
        """The step and the round that follow on these, counted from 0; None after the last."""
        if step + 1 < len(self.steps):
            return step + 1, round_
        return (0, round_ + 1) if round_ < self.repetitions else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an incident stands, as far as telling of it goes.

    `held_until` is set while something holds messages back, `was_held` while a message is. `heard_at` is when
    whoever acknowledged the incident last said something. `is_unheard`: every message of the opening was given up.
    """

    state: str
    is_flapping: bool = False
    policy: Policy | None = None
    next_step_at: datetime | None = None
    told_at: datetime | None = None
    news_at: datetime | None = None
    held_until: datetime | None = None
    was_held: bool = False
    heard_at: datetime | None = None
    is_unheard: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due, and when to look again; None where only a person or a rule moves the incident on."""

    action: Action
    look_at: datetime | None = None


def next_step(standing: Standing, now: datetime) -> Plan:
    """What is due at `now`.

    >>> at = datetime(2026, 11, 21, 20)
    >>> next_step(Standing(state="open", told_at=at), at + timedelta(hours=4)).action
    <Action.REPEAT: 'repeat'>
    >>> next_step(Standing(state="open", told_at=at), at + timedelta(hours=1))
    Plan(action=<Action.NOTHING: 'nothing'>, look_at=datetime.datetime(2026, 11, 22, 0, 0))
    """
    if standing.state == "resolved":
        return _earliest(_ends(standing), now)
    if standing.held_until is not None:
        return Plan(Action.NOTHING, max(min(standing.held_until, now + LOOK_AGAIN), now))
    if standing.was_held:
        return _earliest([(Action.RELEASE, _not_before(standing, now))], now)
    if standing.state == "open" and standing.told_at is None:
        # Due at every look until it comes to something.
        return Plan(Action.ANNOUNCE, now + LOOK_AGAIN)
    return _earliest(_open(standing) if standing.state == "open" else _acknowledged(standing), now)


_Due = Sequence[tuple[Action, datetime | None]]


def _open(standing: Standing) -> _Due:
    told_at = standing.told_at
    return [
        (Action.REROUTE, standing.told_at if standing.is_unheard else None),
        (Action.ESCALATE, standing.next_step_at),
        (Action.UPDATE, _update_at(standing)),
        (Action.REPEAT, told_at and told_at + REPEAT_EVERY),
    ]


def _acknowledged(standing: Standing) -> _Due:
    policy, heard_at = standing.policy, standing.heard_at
    remind_at = unacknowledge_at = None
    if policy and heard_at:
        if policy.remind_every:
            remind_at = max(heard_at, standing.told_at or heard_at) + policy.remind_every
        if policy.unacknowledge_after:
            unacknowledge_at = heard_at + policy.unacknowledge_after
    return [
        (Action.UNACKNOWLEDGE, unacknowledge_at),
        (Action.UPDATE, _update_at(standing)),
        (Action.REMIND, remind_at),
    ]


def _ends(standing: Standing) -> _Due:
    """Of an end only that which was held back while it flapped; where nobody was told of a beginning, none is."""
    news_at, told_at = standing.news_at, standing.told_at
    return [(Action.END, told_at + FLAPPING_EVERY if news_at and told_at else None)]


def _update_at(standing: Standing) -> datetime | None:
    if standing.news_at is None or standing.told_at is None:
        return None
    every = FLAPPING_EVERY if standing.is_flapping else UPDATE_EVERY
    return max(standing.news_at, standing.told_at + every)


def _not_before(standing: Standing, at: datetime) -> datetime:
    """A flapping incident waits for its hour."""
    if standing.is_flapping and standing.told_at is not None:
        return max(at, standing.told_at + FLAPPING_EVERY)
    return at


def _earliest(due: _Due, now: datetime) -> Plan:
    """The first that is due; else when the next of them is."""
    known = [(action, at) for action, at in due if at is not None]
    for action, at in known:
        if at <= now:
            return Plan(action, now)
    return Plan(Action.NOTHING, min((at for _, at in known), default=None))
