"""What a team's incidents can be about now: the features, their milestones and components, environments and severities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budgets.models import Component, Feature, LatencyBudget, Series, Team

from .matchers import fits, matches
from .models import Severity


@dataclass(frozen=True, slots=True)
class Subject:
    """A feature; incidents about it are about one of its milestones or one of its components."""

    feature: Feature
    milestones: list[str]
    components: list[str]
    environments: list[str]


def subjects_of(team: Team) -> list[Subject]:
    """By name, archived ones left out. Four queries. A component or environment that is not known yet is not foreseen."""
    features = list(Feature.objects.filter(team=team, archived_at=None).order_by("name", "slug"))
    found = {one.pk: Subject(feature=one, milestones=[], components=[], environments=[]) for one in features}
    budgets = LatencyBudget.objects.filter(feature__in=features).order_by("-milestone")
    for feature_id, name in budgets.values_list("feature_id", "milestone").distinct():
        found[feature_id].milestones.append(name)
    components = Component.objects.filter(feature__in=features).exclude(state=Component.State.ARCHIVED)
    for feature_id, name in components.order_by("name").values_list("feature_id", "name"):
        found[feature_id].components.append(name)
    series = Series.objects.filter(feature__in=features).order_by("environment")
    for feature_id, name in series.values_list("feature_id", "environment").distinct():
        found[feature_id].environments.append(name)
    for one in found.values():
        if not one.environments:
            # Where nothing was measured yet, production is what comes.
            one.environments.append("production")
    return list(found.values())


def may_fit(matchers: Sequence[Mapping[str, Any]], **facts: str) -> bool:
    """Whether the conditions on these facts hold; the others are left open."""
    return fits([one for one in matchers if one["name"] in facts], facts)


def fits_all(matchers: Sequence[Mapping[str, Any]], subjects: Sequence[Subject]) -> bool:
    """Whether the conditions leave out no incident that there can be now.

    Where there is but one feature, conditions that name it do not count as that: to silence it is to say what is meant.
    """
    subjects = [one for one in subjects if one.milestones or one.components]
    if not subjects or (len(subjects) == 1 and _names(matchers, subjects[0].feature)):
        return False
    return all(may_fit(matchers, severity=one) for one in Severity.values) and all(
        may_fit(matchers, feature=one.feature.slug)
        and all(may_fit(matchers, milestone=name, component="") for name in one.milestones)
        and all(may_fit(matchers, milestone="", component=name) for name in one.components)
        and all(may_fit(matchers, environment=name) for name in one.environments)
        for one in subjects
    )


def _names(matchers: Sequence[Mapping[str, Any]], feature: Feature) -> bool:
    """Whether a condition names the feature: wholly, or by how it begins or ends."""
    return any(
        one["name"] == "feature"
        and (
            one["operator"] == "=" or (one["operator"] == "~" and _begins_or_ends(one["value"], feature.slug))
        )
        for one in matchers
    )


def _begins_or_ends(pattern: str, slug: str) -> bool:
    alternatives = [one.strip() for one in pattern.split("|")]
    return any(matches(one, slug) and not (one.startswith("*") and one.endswith("*")) for one in alternatives)
