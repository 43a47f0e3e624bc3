"""What the decisions mean for incidents: which open, rise, take in evidence, merge and end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budgets.models import Component, Milestone
from budgets.status import ComponentStatus, FeatureStatus, get_overview

from . import incidents
from .conditions import Condition, Watch, Withdrawn
from .history import replay
from .models import Incident, Severity
from .rules import OUTAGE, OVERRUN_WINDOW, Reason
from .summaries import (
    cause_among,
    cause_of,
    component_figures,
    component_summary,
    milestone_figures,
    milestone_summary,
)

# What a person resolved stays resolved for so long, though its conditions still hold.
HELD_FOR = timedelta(minutes=30)


@dataclass(slots=True)
class Settled:
    """Ids of the incidents that were moved."""

    opened: list[int] = field(default_factory=list)
    raised: list[int] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)


def settle(watches: Collection[Watch], *, now: datetime) -> Settled:
    """Opens, raises, feeds, merges and resolves the incidents of these features."""
    features = {watch.feature.pk for watch in watches}
    unresolved: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in (
        Incident.objects.unresolved().filter(feature__in=features).locked().prefetch_related("events")
    ):
        unresolved[incident.feature_id, incident.environment].append(incident)
    by_hand: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in Incident.objects.resolved_by_hand_since(now - HELD_FOR).filter(feature__in=features):
        by_hand[incident.feature_id, incident.environment].append(incident)
    statuses = _Statuses(watches, now)
    done = Settled()
    for watch in watches:
        key = (watch.feature.pk, watch.environment)
        _Settlement(watch, unresolved[key], by_hand[key], statuses, done, now).settle()
    return done


class _Statuses:
    """What the features on which something fires look like, read for all of them at the first question."""

    def __init__(self, watches: Collection[Watch], now: datetime) -> None:
        self._watches, self._now = watches, now
        self._read: dict[tuple[str, str], dict[int, dict[str, FeatureStatus]]] = {}

    def of(self, watch: Watch, window: str) -> dict[str, FeatureStatus]:
        """By the milestone, all of one read."""
        key = (watch.environment, window)
        if key not in self._read:
            features = [
                one.feature
                for one in self._watches
                if one.environment == watch.environment and any(c.is_firing for c in one.conditions)
            ]
            self._read[key] = get_overview(
                features, environment=watch.environment, now=self._now, window=window
            )
        return self._read[key][watch.feature.pk]


@dataclass(slots=True)
class _Settlement:
    """The incidents of one feature in one environment, moved to where its conditions put them."""

    watch: Watch
    unresolved: list[Incident]
    by_hand: list[Incident]
    statuses: _Statuses
    done: Settled
    now: datetime

    def settle(self) -> None:
        """Milestones first, the earlier before the later: one that pages takes the overruns of the components
        in its latency budget, unless an earlier one pages as well."""
        for milestone in Milestone.values:
            self._settle_milestone(milestone)
        overruns = self.watch.overruns()
        names = [one.component.name for one in self.unresolved if one.component]
        for name in dict.fromkeys([*overruns, *names]):
            self._settle_component(name, overruns.get(name))

    # Milestones

    def _settle_milestone(self, milestone: str) -> None:
        tiers = self.watch.tiers(milestone)
        incident = self._incident(milestone=milestone)
        worst = min(filter(lambda one: one.is_firing, tiers), key=_urgency, default=None)
        if incident is None:
            if worst is not None and not self._is_held(tiers, worst.severity, milestone=milestone):
                self._open_milestone(milestone, worst)
            return
        if not any(one.is_active for one in tiers):
            self._resolve(incident, tiers)
            return
        if worst is not None and worst.severity == Severity.PAGE and incident.severity != Severity.PAGE:
            finding = self._burning(milestone, worst, incident.opened_at)
            incidents.raise_severity(incident=incident, finding=finding, now=self.now)
            self.done.raised.append(incident.pk)
        self._feed(incident, milestone, worst)

    def _open_milestone(self, milestone: str, worst: Condition) -> None:
        incident = incidents.open_incident(
            target=incidents.Target(self.watch.feature, self.watch.environment, milestone=milestone),
            finding=self._burning(milestone, worst, self.now),
            evidence=self._evidence(milestone, worst.severity),
            now=self.now,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    def _feed(self, incident: Incident, milestone: str, worst: Condition | None) -> None:
        """Notes the conditions that joined the incident or left it; a component that joins may be the cause."""
        recorded = replay(incident.events.all()).evidence
        current = self._evidence(milestone, incident.severity)
        joined, left = current - recorded, recorded - current
        if not joined and not left:
            return
        incidents.change_evidence(incident=incident, joined=joined, left=left, now=self.now)
        has_new_component = any(one.name in joined for one in self.watch.overruns().values())
        if worst is not None and has_new_component:
            finding = self._burning(milestone, worst, incident.opened_at)
            known = incident.cause["component"] if incident.cause else None
            if finding.cause is not None and finding.cause["component"] != known:
                incidents.change_cause(
                    incident=incident,
                    cause=finding.cause,
                    summary=finding.summary,
                    figures=finding.figures,
                    now=self.now,
                )

    def _evidence(self, milestone: str, severity: str) -> set[str]:
        """The names of the conditions that hold: the milestone's, and under a page those of the components
        that it takes."""
        held = [one for one in self.watch.tiers(milestone) if one.is_active]
        if severity == Severity.PAGE:
            held += [
                one
                for name, one in self.watch.overruns().items()
                if one.is_active and self._takes(milestone, name)
            ]
        return {one.name for one in held}

    def _takes(self, milestone: str, component: str) -> bool:
        """Whether a page for the milestone takes the component's overrun: of several, the earliest does."""
        milestones = self.watch.milestones_of(component)
        if milestone not in milestones:
            return False
        return not any(self._page(one) for one in milestones[: milestones.index(milestone)])

    def _page(self, milestone: str) -> Incident | None:
        incident = self._incident(milestone=milestone)
        return incident if incident is not None and incident.severity == Severity.PAGE else None

    def _burning(self, milestone: str, tier: Condition, since: datetime) -> incidents.Finding:
        assert tier.decision is not None
        statuses = self.statuses.of(self.watch, tier.decision.evidence["long"]["window"])
        status = statuses[milestone]
        # The latency budgets of the milestones before it are part of its own.
        blocks = Milestone.values[: Milestone.values.index(milestone) + 1]
        cause = cause_among(
            [component for one in blocks if one in statuses for component in statuses[one].components]
        )
        figures = milestone_figures(status, tier.decision)
        return incidents.Finding(
            severity=tier.severity,
            rule=tier.name,
            reason=str(tier.decision.reason),
            summary=milestone_summary(
                feature_name=self.watch.feature.name,
                milestone=milestone,
                figures=figures,
                cause=cause,
                since=since,
            ),
            cause=cause,
            burn_rate=tier.decision.burn_rate,
            figures=figures.document(),
        )

    # Components

    def _settle_component(self, name: str, overrun: Condition | None) -> None:
        incident = self._incident(component=name)
        milestones = self.watch.milestones_of(name)
        page = next(filter(None, map(self._page, milestones)), None)
        if page is not None:
            if incident is not None:
                incidents.merge(incident=incident, into=page, now=self.now)
                self.unresolved.remove(incident)
        elif incident is None:
            if overrun is not None and overrun.is_firing and milestones:
                is_held = self._is_held([overrun], Severity.TICKET, component=name) or any(
                    self._is_held(self.watch.tiers(one), Severity.PAGE, milestone=one) for one in milestones
                )
                if not is_held:
                    self._open_component(name, milestones[0], overrun)
        elif overrun is None or not overrun.is_active:
            self._resolve(incident, [overrun] if overrun else [])

    def _open_component(self, name: str, milestone: str, overrun: Condition) -> None:
        assert overrun.decision is not None
        feature = self.watch.feature
        status = self.statuses.of(self.watch, OVERRUN_WINDOW)[milestone]
        observed = _find(status.components, name)
        figures = component_figures(observed, overrun.decision)
        incident = incidents.open_incident(
            target=incidents.Target(
                feature, self.watch.environment, component=Component.objects.get(feature=feature, name=name)
            ),
            finding=incidents.Finding(
                severity=overrun.severity,
                rule=overrun.name,
                reason=str(overrun.decision.reason),
                summary=component_summary(
                    feature_name=feature.name, component=name, figures=figures, since=self.now
                ),
                cause=cause_of(observed),
                burn_rate=None,
                figures=figures.document(),
            ),
            evidence=[overrun.name],
            now=self.now,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    # Both

    def _incident(self, *, milestone: str | None = None, component: str | None = None) -> Incident | None:
        found = (one for one in self.unresolved if _is_about(one, milestone, component))
        return next(found, None)

    def _is_held(
        self,
        conditions: Iterable[Condition],
        severity: str,
        *,
        milestone: str | None = None,
        component: str | None = None,
    ) -> bool:
        """Whether a person resolved this lately and one of its conditions has not been inactive since.

        Something worse than what they resolved is news all the same.
        """
        since = [one.active_since for one in conditions if one.active_since is not None]
        return any(
            at <= incident.resolved_at
            for incident in self.by_hand
            if _is_about(incident, milestone, component)
            and incident.resolved_at is not None
            and (severity != Severity.PAGE or incident.severity == Severity.PAGE)
            for at in since
        )

    def _resolve(self, incident: Incident, conditions: Collection[Condition]) -> None:
        """Ends an incident of which nothing holds any more, for what ended last.

        That a rule was withdrawn, or that there is silence, outweighs a recovery at the same moment.
        """
        reasons = {one.ended_by for one in conditions if one.ended_by}
        if not conditions:
            reason = str(Withdrawn.RULE_REMOVED)
        else:
            reason = min(reasons, key=_weight, default=incidents.RECOVERED)
        incidents.resolve_by_rules(incident=incident, reason=reason, now=self.now)
        self.unresolved.remove(incident)
        self.done.resolved.append(incident.pk)


def _urgency(condition: Condition) -> tuple[bool, bool]:
    """Sorts pages first, an outage before the tiers; tiers stand in their own order."""
    return condition.severity != Severity.PAGE, condition.key != OUTAGE


def _weight(reason: str) -> int:
    return [*Withdrawn, Reason.NO_DATA_TIMEOUT, incidents.RECOVERED].index(reason)


def _is_about(incident: Incident, milestone: str | None, component: str | None) -> bool:
    name = incident.component.name if incident.component else None
    return (incident.milestone, name) == (milestone, component)


def _find(components: Iterable[ComponentStatus], name: str) -> ComponentStatus:
    return next(one for one in components if one.component == name)
