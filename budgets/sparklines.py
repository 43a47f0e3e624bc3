"""The last 24 hours of every milestone, hour by hour, for pages that list features."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from budgets.models import Feature, Series
from budgets.tiles import Counts, Range, read_group_counts

HOURS = 24
_NOTHING = Counts()


def hourly_counts(
    features: Iterable[Feature], *, environment: str, now: datetime
) -> dict[tuple[int, str], list[Counts]]:
    """(feature id, milestone) -> the counters of the last 24 hours, the running one last.

    Exact counters only, no histograms, and two statements for any number of features. A milestone that was
    never measured is left out.
    """
    groups: dict[tuple[int, str], int] = {}
    group_of_series = {
        pk: groups.setdefault((feature_id, str(milestone)), len(groups))
        for pk, feature_id, milestone in Series.objects.filter(
            feature__in=[feature.pk for feature in features], environment=environment, milestone__isnull=False
        ).values_list("pk", "feature_id", "milestone")
    }
    hour = now.replace(minute=0, second=0, microsecond=0)
    ranges = [
        Range(hour - timedelta(hours=back), hour - timedelta(hours=back - 1))
        for back in range(HOURS - 1, -1, -1)
    ]
    found = read_group_counts(group_of_series, ranges)
    return {key: [counts.get(group, _NOTHING) for counts in found] for key, group in groups.items()}
