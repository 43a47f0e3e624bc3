"""Of which incidents the requests are read in one evaluation, to find their cause.

Reading takes a few tenths of a second each: in an outage of everything the first message must not wait for
hundreds of them. Incidents whose turn has not come are told by allocations, and looked at later.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.db.models import BooleanField, ExpressionWrapper, F, Q
from django.db.models.functions import Coalesce

from .models import FollowUp, Incident

READ_AT_ONCE: Final = 10
"""So many new incidents, and so many that go on."""

SOUGHT_EVERY: Final = timedelta(minutes=1)
"""The cause of an open incident is looked for again so often."""


class CausesDue:
    """What one evaluation may read: handed on to all that it settles, and used up by them."""

    def __init__(self, feature_ids: Collection[int] | None, *, now: datetime) -> None:
        """Chooses among the incidents that are not resolved those for which there was no time, then those that were
        looked into longest ago."""
        self._for_news = READ_AT_ONCE
        sought_at = Coalesce("cause_sought_at", "incident__opened_at")
        rows = FollowUp.objects.filter(incident__in=Incident.objects.unresolved().exclude(milestone=None))
        if feature_ids is not None:
            rows = rows.filter(incident__feature__in=feature_ids)
        due = rows.annotate(sought_at=sought_at).filter(sought_at__lte=now - SOUGHT_EVERY)
        was_no_time = Q(incident__attribution__why="many_incidents")
        due = due.annotate(was_no_time=ExpressionWrapper(was_no_time, BooleanField()))
        self._due = set(
            due.order_by(F("was_no_time").desc(nulls_last=True), "sought_at", "pk").values_list(
                "pk", flat=True
            )[:READ_AT_ONCE]
        )

    def take(self, incident: Incident, *, now: datetime) -> bool:
        """Whether it is this incident's turn, which is its last in this evaluation."""
        if incident.pk not in self._due:
            return False
        self._due.remove(incident.pk)
        FollowUp.objects.filter(pk=incident.pk).update(cause_sought_at=now)
        return True

    def take_for_news(self) -> bool:
        """Whether there is time for one that begins, or in which something new happened."""
        self._for_news -= 1
        return self._for_news >= 0
