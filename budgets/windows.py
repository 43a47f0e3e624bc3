"""The counters that alert rules decide by, of all features at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Final

from .burn_rates import BURN_RATE_WINDOWS, last_full_minute, window_bounds
from .models import Series
from .tiles import Counts, Range, read_counts

LAST_FULL_MINUTE: Final = "last_full_minute"
MILESTONE_WINDOWS: Final = (*BURN_RATE_WINDOWS, LAST_FULL_MINUTE)
# What is asked of components. Their longer windows would be most of the work, and no rule reads them.
COMPONENT_WINDOWS: Final = ("5m",)


def window_counts(
    feature_ids: Collection[int] | None,
    *,
    environment: str = "production",
    now: datetime,
    windows: Collection[str] = MILESTONE_WINDOWS,
) -> dict[tuple[int, str], dict[str, Counts]]:
    """(feature id, "milestone:first_token" or "component:<name>") -> window -> exact counters.

    Of `windows` a milestone has all, a component those of COMPONENT_WINDOWS; a window in which nothing was
    measured is left out, a target that was ever measured is not. None means every feature that is not
    archived. Two statements for the counters, however many the features.
    """
    series = Series.objects.filter(environment=environment, feature__archived_at=None)
    if feature_ids is not None:
        series = series.filter(feature_id__in=list(feature_ids))
    milestones: dict[int, tuple[int, str]] = {}
    components: dict[int, tuple[int, str]] = {}
    named = series.values_list("pk", "feature_id", "milestone", "component__name")
    for pk, feature_id, milestone, component in named:
        if component is None:
            milestones[pk] = (feature_id, f"milestone:{milestone}")
        else:
            components[pk] = (feature_id, f"component:{component}")
    ranges = {
        name: Range(*window_bounds(now, length))
        for name, length in BURN_RATE_WINDOWS.items()
        if name in windows
    }
    if LAST_FULL_MINUTE in windows:
        ranges[LAST_FULL_MINUTE] = Range(*last_full_minute(now))
    of_components = tuple(name for name in COMPONENT_WINDOWS if name in ranges)

    found: dict[tuple[int, str], dict[str, Counts]] = defaultdict(dict)
    for targets, names in ((milestones, tuple(ranges)), (components, of_components)):
        for target in targets.values():
            found[target]  # present, though it may stay empty
        for name, counts in zip(
            names, read_counts(list(targets), [ranges[name] for name in names]), strict=True
        ):
            for pk, its_counts in counts.items():
                before = found[targets[pk]].get(name)
                found[targets[pk]][name] = its_counts if before is None else before + its_counts
    return dict(found)
