"""What a silence or maintenance window would mute: seen before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from budgets.models import Feature, Team

from .matchers import fits
from .models import Incident, Severity
from .silences import facts_of
from .subjects import may_fit, subjects_of


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

    Five queries. What can be is what `subjects_of` foresees.
    """
    unresolved = Incident.objects.unresolved().filter(feature__team=team)
    found = unresolved.select_related("feature", "component").order_by("-opened_at", "-pk")
    incidents = [one for one in found if fits(matchers, facts_of(one))]
    severities = [one for one in Severity.values if may_fit(matchers, severity=one)]
    muted = []
    for subject in subjects_of(team):
        milestones = [one for one in subject.milestones if may_fit(matchers, milestone=one, component="")]
        components = [one for one in subject.components if may_fit(matchers, milestone="", component=one)]
        places = [one for one in subject.environments if may_fit(matchers, environment=one)]
        is_named = may_fit(matchers, feature=subject.feature.slug)
        if is_named and severities and places and (milestones or components):
            muted.append(MutedFeature(subject.feature, milestones, components, places, severities))
    return Muted(incidents, muted)
