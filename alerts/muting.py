"""What a silence or maintenance window would mute: seen before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budgets.models import Component, Feature, LatencyBudget, Series, Team

from .matchers import fits
from .models import Incident, Severity
from .silences import facts_of


@dataclass(frozen=True, slots=True)
class MutedFeature:
    """A feature of whose incidents at least some would be held back: those about these targets."""

    feature: Feature
    milestones: list[str]
    components: list[str]
    environments: list[str]
    severities: list[str]


@dataclass(frozen=True, slots=True)
class Muted:
    """What matchers mute now: incidents that are not resolved, and of which features what is to come."""

    incidents: list[Incident]
    features: list[MutedFeature]


def muted_by(*, team: Team, matchers: Sequence[Mapping[str, Any]]) -> Muted:
    """What a silence or maintenance window of the team with these matchers mutes.

    Five queries at most. A component or environment that is not known yet is not foreseen.
    """
    unresolved = Incident.objects.unresolved().filter(feature__team=team)
    found = unresolved.select_related("feature", "component").order_by("-opened_at", "-pk")
    incidents = [one for one in found if fits(matchers, facts_of(one))]
    features = Feature.objects.filter(team=team, archived_at=None).order_by("name", "slug")
    named = [one for one in features if _may_fit(matchers, feature=one.slug)]
    severities = [one for one in Severity.values if _may_fit(matchers, severity=one)]
    milestones: dict[int, list[str]] = {one.pk: [] for one in named}
    for feature_id, name in (
        LatencyBudget.objects.filter(feature__in=named)
        .order_by("-milestone")
        .values_list("feature_id", "milestone")
        .distinct()
    ):
        if _may_fit(matchers, milestone=name, component=""):
            milestones[feature_id].append(name)
    components: dict[int, list[str]] = {one.pk: [] for one in named}
    for feature_id, name in (
        Component.objects.filter(feature__in=named)
        .exclude(state=Component.State.ARCHIVED)
        .order_by("name")
        .values_list("feature_id", "name")
    ):
        if _may_fit(matchers, milestone="", component=name):
            components[feature_id].append(name)
    environments: dict[int, list[str]] = {one.pk: [] for one in named}
    for feature_id, name in (
        Series.objects.filter(feature__in=named)
        .order_by("environment")
        .values_list("feature_id", "environment")
        .distinct()
    ):
        environments[feature_id].append(name)
    muted = []
    for feature in named:
        # Where nothing was measured yet, production is what comes.
        places = [
            one for one in environments[feature.pk] or ["production"] if _may_fit(matchers, environment=one)
        ]
        if severities and places and (milestones[feature.pk] or components[feature.pk]):
            muted.append(
                MutedFeature(feature, milestones[feature.pk], components[feature.pk], places, severities)
            )
    return Muted(incidents, muted)


def _may_fit(matchers: Sequence[Mapping[str, Any]], **facts: str) -> bool:
    """Whether the conditions on these facts hold; the others are left open."""
    return fits([one for one in matchers if one["name"] in facts], facts)
