"""What was accepted and is not rolled up yet, or cannot be: until it is, minutes that look empty may not be."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Max, Q

from .models import Batch, Feature

LAGS_AFTER: Final = timedelta(seconds=30)
"""What waits for less is on its way: a roll-up follows each POST within a second."""


def backlogs_reach(feature_ids: Collection[int], *, now: datetime) -> dict[int, datetime]:
    """The latest instant at which anything ended that the features' teams sent and that waits for its roll-up for too
    long, or was set aside. Features of which nothing waits are left out. Two statements."""
    teams = dict(Feature.objects.filter(pk__in=list(feature_ids)).values_list("pk", "team_id"))
    if not teams:
        return {}
    waits = Q(state=Batch.State.PENDING, received_at__lte=now - LAGS_AFTER) | Q(state=Batch.State.FAILED)
    found = Batch.objects.filter(waits, team__in=set(teams.values())).order_by()
    latest = dict(found.values_list("team").annotate(Max("ended_to")))
    return {feature_id: latest[team] for feature_id, team in teams.items() if team in latest}
