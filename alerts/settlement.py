"""What the decisions mean for incidents: which open, rise, take in evidence, merge and end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from budgets.models import Component, Milestone
from budgets.status import FeatureStatus, get_overview

from . import incidents
from .conditions import Condition, Watch
from .findings import finding_of
from .history import replay
from .models import AlertRule, Incident, Severity
from .rules import OUTAGE, Reason
from .sights import Withdrawn

Kind = AlertRule.Kind

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
    statuses, components = _Statuses(watches, now), _Components(watches)
    done = Settled()
    for watch in watches:
        key = (watch.feature.pk, watch.environment)
        _Settlement(watch, unresolved[key], by_hand[key], statuses, components, done, now).settle()
    return done


# Of so many incidents at once the requests are read; of more, in an outage of everything, it would keep the first
# message waiting. Those are told their cause a minute later.
REQUESTS_READ_AT_ONCE = 10


# The cause of an open incident is looked for again so often, by each worker: what was looked for and changed nothing
# leaves no trace in the database.
SOUGHT_EVERY = timedelta(minutes=1)
_sought_at: dict[int, datetime] = {}


class _Statuses:
    """What the features on which something fires look like, read for all of them at the first question."""

    def __init__(self, watches: Collection[Watch], now: datetime) -> None:
        self._watches, self._now = watches, now
        self._asked = 0
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

    def may_read_requests(self) -> bool:
        self._asked += 1
        return self._asked <= REQUESTS_READ_AT_ONCE


class _Components:
    """The rows of the components about which a condition fires, read for all of them at the first question."""

    def __init__(self, watches: Collection[Watch]) -> None:
        self._watches = watches
        self._read: dict[tuple[int, str], Component] | None = None

    def __getitem__(self, key: tuple[int, str]) -> Component:
        if self._read is None:
            firing = [one for watch in self._watches for one in watch.conditions if one.is_firing]
            found = Component.objects.filter(
                feature__in={one.rule.feature_id for one in firing},
                name__in={one.component for one in firing if one.component is not None},
            )
            self._read = {(one.feature_id, one.name): one for one in found}
        return self._read[key]


@dataclass(slots=True)
class _Settlement:
    """The incidents of one feature in one environment, moved to where its conditions put them."""

    watch: Watch
    unresolved: list[Incident]
    by_hand: list[Incident]
    statuses: _Statuses
    components: _Components
    done: Settled
    now: datetime

    def settle(self) -> None:
        """Milestones first, the earlier before the later: one that pages takes the conditions of the components
        in its latency budget, unless an earlier one pages as well."""
        for milestone in Milestone.values:
            self._settle_target(milestone=milestone)
        named = [one.component.name for one in self.unresolved if one.component]
        for name in dict.fromkeys([*self.watch.components, *named]):
            self._settle_component(name)

    def _settle_component(self, name: str) -> None:
        conditions = self.watch.about(component=name)
        page = self._page_over(name)
        incident = self._incident(component=name)
        is_withdrawn = {one.ended_by for one in conditions} & set(map(str, Withdrawn))
        if page is None or (is_withdrawn and not any(one.is_active for one in conditions)):
            self._settle_target(component=name)
        elif incident is not None:
            incidents.merge(incident=incident, into=page, now=self.now)
            self.unresolved.remove(incident)

    def _settle_target(self, *, milestone: str | None = None, component: str | None = None) -> None:
        conditions = self.watch.about(milestone, component)
        incident = self._incident(milestone, component)
        worst = min(filter(lambda one: one.is_firing, conditions), key=_urgency, default=None)
        if incident is None:
            if worst is not None and not self._is_held(worst, conditions):
                self._open(worst)
        elif not any(one.is_active for one in conditions):
            self._resolve(incident, conditions)
        else:
            if worst is not None and worst.severity == Severity.PAGE and incident.severity != Severity.PAGE:
                finding = self._finding(worst, since=incident.opened_at)
                incidents.raise_severity(incident=incident, finding=finding, now=self.now)
                self.done.raised.append(incident.pk)
            self._feed(incident, worst)

    def _open(self, worst: Condition) -> None:
        name = worst.component
        incident = incidents.open_incident(
            target=incidents.Target(
                self.watch.feature,
                self.watch.environment,
                milestone=worst.milestone,
                component=self.components[self.watch.feature.pk, name] if name is not None else None,
            ),
            finding=self._finding(worst, since=self.now),
            evidence=self._evidence(worst.milestone, name, worst.severity),
            now=self.now,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    def _finding(self, worst: Condition, *, since: datetime) -> incidents.Finding:
        return finding_of(worst, self.watch, self.statuses, since=since)

    def _feed(self, incident: Incident, worst: Condition | None) -> None:
        """Notes the conditions that joined the incident or left it.

        A component that joins may be the cause, and an error budget that fell below another threshold is what is
        to be told now.
        """
        recorded = replay(incident.events.all()).evidence
        component = incident.component.name if incident.component else None
        current = self._evidence(incident.milestone, component, incident.severity)
        joined, left = current - recorded, recorded - current
        if joined or left:
            incidents.change_evidence(incident=incident, joined=joined, left=left, now=self.now)
        has_new_component = incident.component is None and any(
            one.name in joined for one in self.watch.conditions if one.component is not None
        )
        is_news = worst is not None and worst.name in joined and worst.rule.kind == Kind.ERROR_BUDGET
        if worst is not None and (has_new_component or is_news or _is_cause_due(incident, self.now)):
            finding = self._finding(worst, since=incident.opened_at)
            known = incident.cause["component"] if incident.cause else None
            if is_news or (finding.cause is not None and finding.cause["component"] != known):
                incidents.change_cause(
                    incident=incident,
                    cause=finding.cause,
                    summary=finding.summary,
                    figures=finding.figures,
                    attribution=finding.attribution,
                    changes=finding.changes,
                    now=self.now,
                )

    def _evidence(self, milestone: str | None, component: str | None, severity: str) -> set[str]:
        """The names of the conditions that hold: the target's, and under a milestone's page those of the
        components that it takes."""
        held = [one for one in self.watch.about(milestone, component) if one.is_active]
        if milestone is not None and severity == Severity.PAGE:
            held += [
                one
                for one in self.watch.conditions
                if one.component is not None and one.is_active and self._takes(milestone, one.component)
            ]
        return {one.name for one in held}

    def _takes(self, milestone: str, component: str) -> bool:
        """Whether a page for the milestone takes the component's conditions: of several, the earliest does."""
        milestones = self.watch.milestones_of(component)
        if milestone not in milestones:
            return False
        return not any(self._page(one) for one in milestones[: milestones.index(milestone)])

    def _page_over(self, component: str) -> Incident | None:
        """The page that takes the component's conditions."""
        return next(filter(None, map(self._page, self.watch.milestones_of(component))), None)

    def _page(self, milestone: str) -> Incident | None:
        incident = self._incident(milestone)
        return incident if incident is not None and incident.severity == Severity.PAGE else None

    def _incident(self, milestone: str | None = None, component: str | None = None) -> Incident | None:
        found = (one for one in self.unresolved if _is_about(one, milestone, component))
        return next(found, None)

    def _is_held(self, worst: Condition, conditions: Iterable[Condition]) -> bool:
        """Whether a person resolved this lately, or a page that took it, and one of its conditions has not been
        inactive since.

        Something worse than what they resolved is news all the same.
        """
        held = [(worst.milestone, worst.component, worst.severity, conditions)]
        if worst.component is not None:
            held += [
                (one, None, Severity.PAGE, self.watch.about(one))
                for one in self.watch.milestones_of(worst.component)
            ]
        return any(
            one.active_since <= incident.resolved_at
            for milestone, component, severity, its_conditions in held
            for incident in self.by_hand
            if _is_about(incident, milestone, component)
            and incident.resolved_at is not None
            and (severity != Severity.PAGE or incident.severity == Severity.PAGE)
            for one in its_conditions
            if one.active_since is not None
        )

    def _resolve(self, incident: Incident, conditions: Collection[Condition]) -> None:
        """Ends an incident of which nothing holds any more, for what ended last.

        That a rule was withdrawn, or that there is silence, outweighs a recovery at the same moment. What held
        last and has no condition any more lost its rule.
        """
        reasons = {one.ended_by for one in conditions if one.ended_by}
        if not reasons and not {one.name for one in conditions} & replay(incident.events.all()).evidence:
            reasons = {str(Withdrawn.RULE_REMOVED)}
        reason = min(reasons, key=_weight, default=incidents.RECOVERED)
        incidents.resolve_by_rules(incident=incident, reason=reason, now=self.now)
        self.unresolved.remove(incident)
        self.done.resolved.append(incident.pk)


_KINDS = list(Kind.values)


def _is_cause_due(incident: Incident, now: datetime) -> bool:
    """Whether the cause of a milestone's incident is to be looked for again. Asking counts as looking."""
    if incident.milestone is None:
        return False
    if now - _sought_at.get(incident.pk, incident.opened_at) < SOUGHT_EVERY:
        return False
    for pk in [pk for pk, at in _sought_at.items() if now - at > SOUGHT_EVERY]:
        del _sought_at[pk]
    _sought_at[incident.pk] = now
    return True


def _urgency(condition: Condition) -> tuple[bool, int, bool]:
    """Sorts pages first, then by kind, an outage before the tiers; conditions of a rule stand in their own order."""
    return (
        condition.severity != Severity.PAGE,
        _KINDS.index(condition.rule.kind),
        condition.key != OUTAGE,
    )


def _weight(reason: str) -> int:
    return [*Withdrawn, Reason.NO_DATA_TIMEOUT, incidents.RECOVERED].index(reason)


def _is_about(incident: Incident, milestone: str | None, component: str | None) -> bool:
    name = incident.component.name if incident.component else None
    return (incident.milestone, name) == (milestone, component)
