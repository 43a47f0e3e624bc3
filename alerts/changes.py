"""What changed shortly before something went wrong: releases, components, latency budgets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import Q

from budgets import formats
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Feature, LatencyBudget, Milestone, Series
from budgets.series import OTHER

LOOKED_BACK: Final = timedelta(hours=2)
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is "release", "component" or "latency_budget".

    `components` are those that the change is about, empty where it is about the feature; `name` is the release or the
    component.
    """

    kind: str
    at: datetime
    text: str
    name: str = ""
    components: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "kind": self.kind,
            "at": f"{self.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "text": self.text,
            "name": self.name,
            "components": list(self.components),
        }


def changes(*, feature: Feature, environment: str, milestone: str | None, at: datetime) -> list[Change]:
    """What changed in the two hours up to `at`, newest first.

    Releases and components whose first measurement that is kept ended then, in minutes; and the versions that took
    effect of the milestone's latency budget and of those before it, which are part of it; without a milestone, of all.
    What a feature began with is no change.
    """
    found = [
        *_first_seen(feature, environment, at),
        *_versions(feature, milestone, at),
    ]
    return sorted(found, key=lambda change: (change.at, change.text), reverse=True)


# -- what was measured for the first time -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """A series: when it was first measured in the two hours, and whether it had been before."""

    target: str
    component: str | None
    release: str
    first_at: datetime | None
    was_before: bool


def _first_seen(feature: Feature, environment: str, at: datetime) -> list[Change]:
    series = _series(feature, environment, at)
    known = {one.target for one in series if one.was_before}
    if not known:
        return []
    new: dict[str, list[_Seen]] = {}
    first_of_component: dict[str, datetime] = {}
    for one in series:
        if one.first_at is None or one.was_before:
            continue
        if one.target in known:
            if one.release not in ("", OTHER):
                new.setdefault(one.release, []).append(one)
        elif one.component is not None:
            earlier = first_of_component.get(one.component, one.first_at)
            first_of_component[one.component] = min(earlier, one.first_at)
    return [
        *(_release(name, seen) for name, seen in new.items()),
        *(
            Change(
                "component", first_at, f"{formats.name(name)} was measured for the first time", name, (name,)
            )
            for name, first_at in first_of_component.items()
        ),
    ]


def _release(name: str, seen: list[_Seen]) -> Change:
    """A release that milestones have is the feature's; one that components alone have is theirs."""
    components = tuple(sorted(one.component for one in seen if one.component is not None))
    is_whole = len(components) < len(seen)
    of = "" if is_whole else f" of {formats.name(', '.join(components))}"
    first_at = min(one.first_at for one in seen if one.first_at is not None)
    return Change(
        "release", first_at, f"Release {formats.name(name)}{of}", name, () if is_whole else components
    )


def _series(feature: Feature, environment: str, at: datetime) -> list[_Seen]:
    since = at - LOOKED_BACK
    rows = list(
        Series.objects.filter(feature=feature, environment=environment).values_list(
            "pk", "milestone", "component__name", "release", "last_seen_on"
        )
    )
    # Only what was received since can have been measured since; the others are older than that.
    recent = [pk for pk, *_, last_seen_on in rows if last_seen_on >= since.astimezone(UTC).date()]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, first_at, first_at IS NOT NULL AND (
                       EXISTS (SELECT FROM budgets_rollup_hour h
                               WHERE h.series_id = id AND h.start < date_trunc('hour', %(since)s::timestamptz))
                       OR EXISTS (SELECT FROM budgets_rollup_minute m WHERE m.series_id = id AND m.start < %(since)s))
            FROM unnest(%(ids)s::int4[]) AS recent (id)
            CROSS JOIN LATERAL (SELECT min(m.start) AS first_at FROM budgets_rollup_minute m
                                WHERE m.series_id = id AND m.start >= %(since)s AND m.start <= %(at)s) AS first
            """,
            {"ids": recent, "since": since, "at": at},
        )
        found = {pk: (first_at, was_before) for pk, first_at, was_before in cursor.fetchall()}
    return [
        _Seen(
            target=milestone or f"component:{component}",
            component=component,
            release=release,
            first_at=found[pk][0] if pk in found else None,
            # Not measured in the two hours: if it was measured at all, then before.
            was_before=found[pk][1] or found[pk][0] is None if pk in found else True,
        )
        for pk, milestone, component, release, _ in rows
    ]


# -- versions of latency budgets --------------------------------------------------------------------


def _versions(feature: Feature, milestone: str | None, at: datetime) -> list[Change]:
    milestones = Milestone.values[: Milestone.values.index(milestone) + 1] if milestone else Milestone.values
    versions = LatencyBudget.objects.filter(
        Q(version__gt=1),
        feature=feature,
        milestone__in=milestones,
        effective_from__gt=at - LOOKED_BACK,
        effective_from__lte=at,
    )
    found = []
    for version in versions:
        key = (feature.pk, version.milestone)
        before = budgets_in_force([feature.pk], version.effective_from - _INSTANT).get(key)
        after = budgets_in_force([feature.pk], version.effective_from).get(key)
        name = Milestone(version.milestone).label
        text = f"{name}: {'; '.join(_differences(before, after))}"
        found.append(Change("latency_budget", version.effective_from, text, f"version {version.version}"))
    return found


def _differences(before: BudgetInForce | None, after: BudgetInForce | None) -> list[str]:
    if after is None:
        return ["latency budget retired"]
    if before is None:
        return [f"latency budget {formats.limit(after.budget_ms)}"]
    found = []
    if before.budget_ms != after.budget_ms:
        found.append(f"latency budget {formats.limit(before.budget_ms)} → {formats.limit(after.budget_ms)}")
    if before.objective != after.objective:
        found.append(
            f"objective {formats.objective(before.objective)} → {formats.objective(after.objective)}"
        )
    for name in dict.fromkeys([*before.allocations, *after.allocations]):
        old, new = before.allocations.get(name), after.allocations.get(name)
        if old != new:
            words = ["nothing" if one is None else formats.limit(one) for one in (old, new)]
            found.append(f"{formats.name(name)} {' → '.join(words)}")
    return found or ["latency budget saved again"]
