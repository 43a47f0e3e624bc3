"""What the rules would have said, minute by minute, of what is given: the real decisions, replayed.

`replay` asks `alerts.rules.decide` as evaluations do, at two moments of every minute (alerts.minutes). Moments at
which nothing can change are skipped (alerts.outlooks), which makes a month take milliseconds; the transitions are
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from .lookbacks import observed
from .minutes import Minutes
from .outlooks import outlook_of
from .rules import Decision, Previous, Rule, Status, decide


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule changed its status or severity."""

    at: datetime
    before: Status
    decision: Decision

    @property
    def status(self) -> Status:
        return self.decision.status


def replay(
    rule: Rule, minutes: Minutes, *, since: datetime | None = None, is_every_moment_asked: bool = False
) -> Iterator[Transition]:
    """What changed of a rule that was inactive at first, in order.

    Asked from `since` on, by default from the first minute; minutes before it only fill windows. Raises ValueError
    where the minutes have not what the rule looks at.
    """
    moment = 0 if since is None else max(0, minutes.moment(since))
    outlook = None if is_every_moment_asked else outlook_of(rule, minutes, moment)
    previous = Previous(Status.INACTIVE, minutes.instant(moment))
    while True:
        if outlook is not None:
            moment = outlook.next(previous, moment)
        if moment >= minutes.moments:
            return
        now = minutes.instant(moment)
        decision = decide(rule, observed(rule, minutes, moment), previous, now)
        if (decision.status, decision.severity) != (previous.status, previous.severity):
            yield Transition(now, previous.status, decision)
        previous = decision.remembered()
        moment += 1
