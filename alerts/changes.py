"""What changed shortly before something went wrong: releases, components, latency budgets, deploys and notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import F, Q, Window
from django.db.models.functions import RowNumber

from budgets import formats
from budgets.annotations import KINDS
from budgets.instants import rfc3339
from budgets.limits import BudgetInForce, budgets_in_force
from budgets.models import Annotation, Feature, LatencyBudget, Milestone, Series
from budgets.series import OTHER

LOOKED_BACK: Final = timedelta(hours=2)
# Of a feature, and of its team beside: an incident keeps and tells what changed, and nobody reads hundreds.
MOST_MARKED: Final = 20
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is "release", "component", "latency_budget", "deploy" or "note".

    `components` are those that the change is about, empty where it is about the feature; `name` is the release, the
    component or the text of the annotation.
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
            "at": rfc3339(self.at),
            "text": self.text,
            "name": self.name,
            "components": list(self.components),
        }


class RecentChanges:
    """What changed of some features in the two hours up to `at`: read once, however many incidents begin then.

    Releases and components whose first measurement that is kept ended then, in minutes; the versions that took effect of
    their latency budgets; and the deploys and notes that are marked of them or of all of their team's features. What a
    feature began with is no change.
    """

    def __init__(self, features: Collection[Feature], *, environment: str, at: datetime) -> None:
        ids = [feature.pk for feature in features]
        self._first_seen = _first_seen(ids, environment, at)
        self._versions = _versions(ids, at)
        self._marked = _marked(features, environment, at)

    def of(self, feature: Feature, milestone: str | None) -> list[Change]:
        """The feature's, newest first. Of versions those of the milestone and of those before it, whose latency
        budgets are part of its own; without a milestone, of all."""
        milestones = (
            Milestone.values[: Milestone.values.index(milestone) + 1] if milestone else Milestone.values
        )
        found = [
            *self._first_seen.get(feature.pk, ()),
            *self._marked.get((feature.team_id, feature.pk), ()),
            *self._marked.get((feature.team_id, None), ()),
            *(change for one, change in self._versions.get(feature.pk, ()) if one in milestones),
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


def _first_seen(feature_ids: Collection[int], environment: str, at: datetime) -> dict[int, list[Change]]:
    by_feature: dict[int, list[_Seen]] = defaultdict(list)
    for feature_id, seen in _series(feature_ids, environment, at):
        by_feature[feature_id].append(seen)
    return {feature_id: _news(series) for feature_id, series in by_feature.items()}


def _news(series: Collection[_Seen]) -> list[Change]:
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


def _series(feature_ids: Collection[int], environment: str, at: datetime) -> Iterator[tuple[int, _Seen]]:
    since = at - LOOKED_BACK
    rows = list(
        Series.objects.filter(feature__in=feature_ids, environment=environment).values_list(
            "feature_id", "pk", "milestone", "component__name", "release", "last_seen_on"
        )
    )
    # Only what was received since can have been measured since; the others are older than that.
    recent = [pk for _, pk, *_, last_seen_on in rows if last_seen_on >= since.astimezone(UTC).date()]
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
    for feature_id, pk, milestone, component, release, _ in rows:
        # Not measured in the two hours: if it was measured at all, then before.
        first_at, was_before = found.get(pk, (None, True))
        yield (
            feature_id,
            _Seen(
                target=milestone or f"component:{component}",
                component=component,
                release=release,
                first_at=first_at,
                was_before=was_before or first_at is None,
            ),
        )


# -- what people and programs marked ----------------------------------------------------------------


def _marked(
    features: Collection[Feature], environment: str, at: datetime
) -> dict[tuple[int, int | None], list[Change]]:
    """Team's and feature's id → its deploys and notes, the newest; those about all of the team's under None.

    Releases are left out: they are known by what was measured.
    """
    marked = (
        Annotation.objects.filter(
            Q(feature__in=[feature.pk for feature in features])
            | Q(feature=None, team__in={feature.team_id for feature in features}),
            environment=environment,
            kind__in=KINDS,
            at__gt=at - LOOKED_BACK,
            at__lte=at,
        )
        .annotate(
            newest=Window(
                RowNumber(), partition_by=[F("team"), F("feature")], order_by=[F("at").desc(), F("id").desc()]
            )
        )
        .filter(newest__lte=MOST_MARKED)
    )
    found: dict[tuple[int, int | None], list[Change]] = defaultdict(list)
    for one in marked:
        text = f"{one.get_kind_display()}: {formats.name(one.text)}"
        found[one.team_id, one.feature_id].append(Change(one.kind, one.at, text, one.text))
    return found


# -- versions of latency budgets --------------------------------------------------------------------


def _versions(feature_ids: Collection[int], at: datetime) -> dict[int, list[tuple[str, Change]]]:
    """Feature's id → the milestone of each version with the change that it made."""
    versions = LatencyBudget.objects.filter(
        Q(version__gt=1),
        feature__in=feature_ids,
        effective_from__gt=at - LOOKED_BACK,
        effective_from__lte=at,
    )
    together: dict[datetime, list[LatencyBudget]] = defaultdict(list)
    for version in versions:
        together[version.effective_from].append(version)
    found: dict[int, list[tuple[str, Change]]] = defaultdict(list)
    for effective_from, several in together.items():
        ids = {version.feature_id for version in several}
        before = budgets_in_force(ids, effective_from - _INSTANT)
        after = budgets_in_force(ids, effective_from)
        for version in several:
            key = (version.feature_id, version.milestone)
            name = Milestone(version.milestone).label
            text = f"{name}: {'; '.join(_differences(before.get(key), after.get(key)))}"
            change = Change("latency_budget", effective_from, text, f"version {version.version}")
            found[version.feature_id].append((version.milestone, change))
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
