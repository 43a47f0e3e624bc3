"""Names to series: made at first sight, within limits that keep one sender from filling the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction

from .items import Reason
from .models import Annotation, Component, Feature, Series, Team
from .payloads import Target

OTHER = "__other__"
SERIES_SEEN_WITHIN = timedelta(days=14)
# How long a name that was put under __other__ stays there in this process before it is tried again.
OVERFLOW_FOR_S = 60.0
# Of a feature, which has 2000 series that are in use; more are names that will not come again.
_CACHE_LIMIT = 10_000


_Name = tuple[str | None, str | None, str, str]
# feature id -> (component, milestone, environment, release) -> (series id, monotonic expiry or None).
# Series are never deleted while their feature exists, so an entry is right for as long as it is kept.
_known: dict[tuple[str, int], dict[_Name, tuple[int, float | None]]] = {}


class Found(NamedTuple):
    """The series of targets, or why there is none; and by feature id the targets that this process has not met."""

    series: dict[Target, int | Reason]
    unknown: dict[int, list[Target]]


def find(team: Team, targets: Iterable[Target]) -> Found:
    """Looks for the series of each target, by one statement."""
    # In their order: of several that are new, the first gets what the limits leave.
    wanted = dict.fromkeys(targets)
    features = _features(team, {target[0] for target in wanted})
    caches = {feature_id: _cache_of(feature_id) for feature_id, _ in features.values()}
    resolved: dict[Target, int | Reason] = {}
    unknown: dict[int, list[Target]] = {}
    for target in wanted:
        if target[0] not in features:
            resolved[target] = Reason(
                "unknown_feature", f"Team {team.slug!r} has no feature {target[0]!r}; declare it first."
            )
            continue
        feature_id, archived_at = features[target[0]]
        if archived_at is not None:
            resolved[target] = Reason("feature_archived", f"Feature {target[0]!r} is archived.")
            continue
        known = caches[feature_id].get(target[1:])
        if known is not None and (known[1] is None or known[1] > time.monotonic()):
            resolved[target] = known[0]
        else:
            unknown.setdefault(feature_id, []).append(target)
    return Found(resolved, unknown)


def make(
    unknown: dict[int, list[Target]], now: datetime, *, ended_at: Mapping[Target, datetime] | None = None
) -> dict[Target, int | Reason]:
    """The series of targets by feature id, made where they are new; or why there is none.

    A release that is new to a feature's environment becomes an annotation, at the earliest `ended_at` of its targets;
    without, now. What an environment begins with is no change, and neither is the overflow.
    """
    made: dict[Target, int | Reason] = {}
    for feature_id, several in sorted(unknown.items()):
        made |= _make(feature_id, several, now, ended_at or {})
    return made


def _features(team: Team, slugs: set[str]) -> dict[str, tuple[int, datetime | None]]:
    """Slug -> id and when it was archived, of those that the team has. Every POST asks this."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slug, id, archived_at FROM budgets_feature WHERE team_id = %s AND slug = ANY(%s)",
            [team.pk, list(slugs)],
        )
        return {slug: (pk, archived_at) for slug, pk, archived_at in cursor.fetchall()}


def _cache_of(feature_id: int) -> dict[_Name, tuple[int, float | None]]:
    return _known.setdefault((str(connection.settings_dict["NAME"]), feature_id), {})


@transaction.atomic
def _make(
    feature_id: int, targets: list[Target], now: datetime, ended_at: Mapping[Target, datetime]
) -> dict[Target, int | Reason]:
    """Finds or makes series under the feature's lock, so that its limits hold however many post at once."""
    feature_row = (
        Feature.objects.select_for_update(of=("self",), no_key=True).only("pk", "team").get(pk=feature_id)
    )
    components = {c.name: c for c in Component.objects.filter(feature_id=feature_id)}
    series = Series.objects.filter(feature_id=feature_id)
    environments = set(series.values_list("environment", flat=True).distinct())
    measured_before = frozenset(environments)
    recent = series.filter(last_seen_on__gte=(now - SERIES_SEEN_WITHIN).date()).count()
    found = {
        (one.component_id, one.milestone, one.environment, one.release): one
        for one in series.filter(release__in={OTHER, *(target[4] for target in targets)})
    }
    known_releases = {(environment, release) for _, _, environment, release in found}
    appeared: dict[tuple[str, str], datetime] = {}
    made: list[Series] = []
    resolved: dict[Target, Series | Reason] = {}
    overflown: set[Target] = set()
    for target in targets:
        feature, component_name, milestone, environment, release = target
        if environment not in environments:
            if len(environments) >= settings.MAX_ENVIRONMENTS_PER_FEATURE:
                resolved[target] = Reason(
                    "too_many_environments",
                    f"Feature {feature!r} has {len(environments)} environments, the most there may be; "
                    f"{environment!r} is not one of them.",
                )
                continue
            environments.add(environment)
        component = _component(feature_id, component_name, components)
        component_id = component.pk if component else None
        if component and component.name != component_name:
            overflown.add(target)
        name = (component_id, milestone, environment, release)
        if name not in found and recent >= settings.MAX_SERIES_PER_FEATURE:
            overflown.add(target)
            name = (component_id, milestone, environment, OTHER)
        if name not in found:
            found[name] = Series(
                feature_id=feature_id,
                component_id=component_id,
                milestone=milestone,
                environment=environment,
                release=name[3],
                last_seen_on=now.date(),
            )
            made.append(found[name])
            recent += 1
            place = (environment, name[3])
            if environment in measured_before and place not in known_releases and place[1] not in ("", OTHER):
                at = ended_at.get(target, now)
                appeared[place] = min(at, appeared.get(place, at))
        resolved[target] = found[name]
    Series.objects.bulk_create(made)
    if appeared:
        _annotate(feature_row, appeared, now)
    ids = {target: one if isinstance(one, Reason) else one.pk for target, one in resolved.items()}
    transaction.on_commit(lambda: _remember(feature_id, ids, overflown))
    return ids


def _annotate(feature: Feature, appeared: Mapping[tuple[str, str], datetime], now: datetime) -> None:
    """One annotation for each release, however many series it has."""
    annotations = [
        Annotation(
            team_id=feature.team_id,
            feature=feature,
            environment=environment,
            at=at,
            kind=Annotation.Kind.RELEASE,
            text=release,
            created_at=now,
        )
        for (environment, release), at in appeared.items()
    ]
    # Of a release that had its annotation deleted, series are left; of one that has it, none may be missing.
    Annotation.objects.bulk_create(annotations, ignore_conflicts=True)


def _remember(feature_id: int, ids: dict[Target, int | Reason], overflown: set[Target]) -> None:
    cache = _cache_of(feature_id)
    if len(cache) > _CACHE_LIMIT:
        cache.clear()
    soon = time.monotonic() + OVERFLOW_FOR_S
    for target, pk in ids.items():
        if not isinstance(pk, Reason):
            cache[target[1:]] = (pk, soon if target in overflown else None)


def _component(feature_id: int, name: str | None, components: dict[str, Component]) -> Component | None:
    """The component of this name; one that was never declared is noted; beyond the limit, `__other__`."""
    if name is None:
        return None
    if name not in components and len(components) >= settings.MAX_COMPONENTS_PER_FEATURE:
        name = OTHER
    if name not in components:
        last = max((component.position for component in components.values()), default=-1)
        components[name] = Component.objects.create(
            feature_id=feature_id,
            name=name,
            state=Component.State.OBSERVED,
            position=min(last + 1, 32767),
        )
    return components[name]
