"""What the decisions mean for incidents: which open, rise, take in evidence, merge and end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from budgets import formats
from budgets.models import Component, Milestone
from budgets.status import FeatureStatus, get_overview
from budgets.zones import zone_of

from . import incidents
from .causes import is_by_requests, is_other_cause, was_put_off
from .causes_due import CausesDue
from .changes import RecentChanges
from .conditions import Condition, Watch
from .directory import Directory
from .escalation import REOPENS_WITHIN
from .findings import finding_of
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


def settle(watches: Collection[Watch], *, causes_due: CausesDue, now: datetime) -> Settled:
    """Opens, raises, feeds, merges and resolves the incidents of these features."""
    features = {watch.feature.pk for watch in watches}
    unresolved: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in Incident.objects.unresolved().filter(feature__in=features).locked():
        unresolved[incident.feature_id, incident.environment].append(incident)
    by_hand: dict[tuple[int, str], list[Incident]] = defaultdict(list)
    for incident in Incident.objects.resolved_by_hand_since(now - HELD_FOR).filter(feature__in=features):
        by_hand[incident.feature_id, incident.environment].append(incident)
    read = _Read(watches, causes_due, now)
    done = Settled()
    for watch in watches:
        key = (watch.feature.pk, watch.environment)
        _Settlement(watch, unresolved[key], by_hand[key], read, done, now).settle()
    return done


class _Read:
    """What settling reads beside the incidents, of all features together and at the first question."""

    def __init__(self, watches: Collection[Watch], causes_due: CausesDue, now: datetime) -> None:
        self._watches, self._now = watches, now
        self.statuses, self.components = _Statuses(watches, now), _Components(watches)
        self.causes_due = causes_due
        self.directory = Directory(now=now)
        self._changes: dict[str, RecentChanges] = {}

    def changes(self, watch: Watch, milestone: str | None) -> list[dict[str, Any]]:
        """What changed before now, of a feature in which something begins."""
        if watch.environment not in self._changes:
            features = [one.feature for one in _in_trouble(self._watches, watch.environment)]
            self._changes[watch.environment] = RecentChanges(
                features, environment=watch.environment, at=self._now
            )
        return [one.document() for one in self._changes[watch.environment].of(watch.feature, milestone)]

    @cached_property
    def ended(self) -> dict[incidents.TargetKey, int]:
        """The incidents that come back where their target is in trouble again."""
        return incidents.ended_lately({watch.feature.pk for watch in self._watches}, now=self._now)


def _in_trouble(watches: Iterable[Watch], environment: str) -> list[Watch]:
    return [
        one
        for one in watches
        if one.environment == environment and any(condition.is_firing for condition in one.conditions)
    ]


class _Statuses:
    """What the features on which something fires look like, read for all of them at the first question."""

    def __init__(self, watches: Collection[Watch], now: datetime) -> None:
        self._watches, self._now = watches, now
        self._read: dict[tuple[str, str], dict[int, dict[str, FeatureStatus]]] = {}

    def of(self, watch: Watch, window: str) -> dict[str, FeatureStatus]:
        """By the milestone, all of one read."""
        key = (watch.environment, window)
        if key not in self._read:
            features = [one.feature for one in _in_trouble(self._watches, watch.environment)]
            self._read[key] = get_overview(
                features, environment=watch.environment, now=self._now, window=window
            )
        return self._read[key][watch.feature.pk]


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
    read: _Read
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
                finding = self._finding(worst, incident, reads_requests=self.read.causes_due.take_for_news())
                incidents.raise_severity(incident=incident, finding=finding, now=self.now)
                self.done.raised.append(incident.pk)
            elif worst is not None and self._pages_again(incident, conditions):
                finding = self._finding(worst, incident, reads_requests=self.read.causes_due.take_for_news())
                evidence = self._evidence_of(incident)
                incidents.reopen(incident=incident, finding=finding, evidence=evidence, now=self.now)
                self.done.opened.append(incident.pk)
            self._feed(incident, worst, is_paging=_would_page(conditions))

    def _pages_again(self, incident: Incident, conditions: Collection[Condition]) -> bool:
        """Whether a page begins anew in an incident that only slower rules have kept open.

        After an outage they do for hours, and whoever acknowledged it has long gone back to bed.
        """
        ended_at = incident.paging_ended_at
        return ended_at is not None and self.now - ended_at >= REOPENS_WITHIN and _would_page(conditions)

    def _open(self, worst: Condition) -> None:
        name = worst.component
        incident = incidents.open_incident(
            target=incidents.Target(
                self.watch.feature,
                self.watch.environment,
                milestone=worst.milestone,
                component=self.read.components[self.watch.feature.pk, name] if name is not None else None,
            ),
            finding=self._finding(
                worst, reads_requests=worst.milestone is not None and self.read.causes_due.take_for_news()
            ),
            evidence=self._evidence(worst.milestone, name, worst.severity),
            now=self.now,
            ended=self.read.ended,
            directory=self.read.directory,
        )
        if incident is not None:
            self.unresolved.append(incident)
            self.done.opened.append(incident.pk)

    def _finding(
        self, worst: Condition, incident: Incident | None = None, *, reads_requests: bool
    ) -> incidents.Finding:
        """What is to be told by this condition; of an incident that there is what it knew before stays known."""
        # Who is told of it reads it by the clock of the team.
        with formats.reading_in(zone_of(self.watch.feature.team.time_zone)):
            return finding_of(
                worst,
                self.watch,
                self.read.statuses,
                since=incident.opened_at if incident else self.now,
                changed=incident.changes if incident else self.read.changes(self.watch, worst.milestone),
                reads_requests=reads_requests,
                known=incident,
            )

    def _feed(self, incident: Incident, worst: Condition | None, *, is_paging: bool) -> None:
        """Notes the conditions that joined the incident or left it.

        A component that joins may be the cause, and an error budget that fell below another threshold is what is
        to be told now.
        """
        recorded, current = set(incident.evidence), self._evidence_of(incident)
        joined, left = current - recorded, recorded - current
        was_paging = incident.paging_ended_at is None
        has_turned = incident.severity == Severity.PAGE and is_paging != was_paging
        if joined or left or has_turned:
            incidents.change_evidence(
                incident=incident,
                joined=joined,
                left=left,
                is_paging=is_paging if has_turned else None,
                now=self.now,
            )
        if worst is None:
            return
        has_new_component = incident.component is None and any(
            one.name in joined for one in self.watch.conditions if one.component is not None
        )
        is_news = worst.name in joined and worst.rule.kind == Kind.ERROR_BUDGET
        causes_due = self.read.causes_due
        is_due = causes_due.take(incident, now=self.now)
        if is_due or has_new_component or is_news:
            self._look_for_cause(
                incident, worst, is_news=is_news, reads_requests=is_due or causes_due.take_for_news()
            )

    def _look_for_cause(
        self, incident: Incident, worst: Condition, *, is_news: bool, reads_requests: bool
    ) -> None:
        finding = self._finding(worst, incident, reads_requests=reads_requests)
        is_other = is_other_cause(finding.cause, finding.attribution, known=incident.cause)
        is_better_known = is_by_requests(finding.attribution) and not is_by_requests(incident.attribution)
        # Also where the requests do not tell: it has been looked for, and others' turn has come.
        is_better_known = is_better_known or (
            was_put_off(incident.attribution) and not was_put_off(finding.attribution)
        )
        if is_news or is_other or is_better_known:
            incidents.change_cause(
                incident=incident,
                cause=finding.cause,
                summary=finding.summary,
                figures=finding.figures,
                attribution=finding.attribution,
                is_news=is_news or is_other,
                now=self.now,
            )

    def _evidence_of(self, incident: Incident) -> set[str]:
        component = incident.component.name if incident.component else None
        return self._evidence(incident.milestone, component, incident.severity)

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
        if not reasons and not {one.name for one in conditions} & set(incident.evidence):
            reasons = {str(Withdrawn.RULE_REMOVED)}
        reason = min(reasons, key=_weight, default=incidents.RECOVERED)
        incidents.resolve_by_rules(incident=incident, reason=reason, now=self.now)
        self.unresolved.remove(incident)
        self.done.resolved.append(incident.pk)


_KINDS = list(Kind.values)


def _urgency(condition: Condition) -> tuple[bool, int, bool]:
    """Sorts pages first, then by kind, an outage before the tiers; conditions of a rule stand in their own order."""
    return (
        condition.severity != Severity.PAGE,
        _KINDS.index(condition.rule.kind),
        condition.key != OUTAGE,
    )


def _would_page(conditions: Iterable[Condition]) -> bool:
    return any(one.is_active and one.severity == Severity.PAGE for one in conditions)


def _weight(reason: str) -> int:
    return [*Withdrawn, Reason.NO_DATA_TIMEOUT, incidents.RECOVERED].index(reason)


def _is_about(incident: Incident, milestone: str | None, component: str | None) -> bool:
    name = incident.component.name if incident.component else None
    return (incident.milestone, name) == (milestone, component)
