"""What happened to a feature within a range, as charts mark it."""

from __future__ import annotations

from datetime import datetime

from budgets.annotations import annotations_between
from budgets.charts import Marker
from budgets.models import Feature, LatencyBudget, Milestone


def change_markers(
    feature: Feature, milestone: str | None, *, environment: str, start: datetime, end: datetime
) -> list[Marker]:
    """Versions of a milestone's latency budget (of every milestone's without one), releases, deploys and notes.

    "limits v2" is a version, so that it is never taken for a release of that name. The first version of each has been in
    force always.
    """
    versions = LatencyBudget.objects.filter(
        feature=feature, version__gt=1, effective_from__gte=start, effective_from__lt=end
    )
    if milestone:
        versions = versions.filter(milestone=milestone)
    return [
        *(
            Marker(
                one.effective_from,
                f"limits v{one.version}",
                what="Latency budget",
                detail=f"version {one.version} of {Milestone(one.milestone).label.lower()}",
            )
            for one in versions.order_by("effective_from", "milestone")
        ),
        *(
            Marker(one.at, one.text, what=str(one.get_kind_display()))
            for one in annotations_between(feature, environment=environment, start=start, end=end)
        ),
    ]
