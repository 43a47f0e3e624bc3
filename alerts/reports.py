"""A team's report about a week or a month: what each promise came to, and what kept it from being kept.

A request is judged by the version of the latency budget that was in force when it ended, and nothing of that is
computed anew: a report adds up rollups. Where an objective changed within the period, each hour counts against the one
that held in it. The error budget of a period is what its own requests may miss, so that 100 % is spent exactly when the
promise is only just kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final, Literal

from django.conf import settings
from django.db.models import Q

from budgets.burn_rates import State, component_state
from budgets.differences import Difference, differences, milestone_words, version_document
from budgets.models import Feature, LatencyBudget, Milestone, Series, Team
from budgets.tiles import DAY, HOUR, Counts, Range, read_group_cells, read_group_counts

from .models import Incident, IncidentEvent
from .report_periods import Period

FEW: Final = 100
"""Of fewer requests than this, one is more than a percentage point: what they came to says little."""

Interval = tuple[datetime, datetime]
Step = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class Tally:
    """What was judged against a promise; `allowed_bad` is what its objectives let miss, exactly."""

    judged: int = 0
    good: int = 0
    allowed_bad: Decimal = Decimal(0)

    @property
    def bad(self) -> int:
        return self.judged - self.good

    @property
    def achieved_ratio(self) -> float | None:
        return self.good / self.judged if self.judged else None

    @property
    def used_ratio(self) -> float | None:
        """How much of the error budget is spent: 1.0 is all of it. None where nothing was judged."""
        return float(self.bad / self.allowed_bad) if self.allowed_bad else None

    @property
    def is_kept(self) -> bool | None:
        """Whether the promise was kept; None where nothing was judged."""
        return self.bad <= self.allowed_bad if self.judged else None

    @property
    def is_few(self) -> bool:
        return 0 < self.judged < FEW

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.judged + other.judged, self.good + other.good, self.allowed_bad + other.allowed_bad)


@dataclass(frozen=True, slots=True)
class Cause:
    """The component to blame for most. `component` is None for the time in no component that is measured.

    By incidents: the one that made their slow requests slow, or that was open for longest. By its allocation: the one that
    was over it most often, with that share.
    """

    component: str | None
    by: Literal["requests", "incidents", "allocation"]
    over_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """A version of a latency budget that took effect within the period."""

    feature: Feature
    milestone: str
    version: int
    at: datetime
    author: str
    note: str
    words: str
    """All that a first version says, or what a retirement ended; "" where there is a before and an after."""
    is_retirement: bool
    differences: list[Difference]

    @property
    def is_first(self) -> bool:
        """Whether it has held always; `at` is when it was declared."""
        return self.version == 1

    @property
    def words_in_line(self) -> str:
        """What it changed, in one line: "objective 99 % → 99.9 %"."""
        if self.is_retirement:
            return f"retired, it was {self.words}"
        changed = [f"{one.label} {one.before} → {one.after}" for one in self.differences]
        return self.words or ", ".join(changed) or "only the reason"


@dataclass(frozen=True, slots=True)
class Promise:
    """A milestone of a feature in the period, and in the period before."""

    feature: Feature
    milestone: str
    budget_ms: Decimal
    objective: Decimal
    """The one at the end of the period; `earlier_objectives` are others that held in it, in their order."""
    earlier_objectives: tuple[Decimal, ...]
    tally: Tally
    before: Tally
    incidents: int
    incident_time: timedelta
    cause: Cause | None

    @property
    def change_points(self) -> float | None:
        """By how many percentage points more was achieved than in the period before."""
        now, before = self.tally.achieved_ratio, self.before.achieved_ratio
        return None if now is None or before is None else (now - before) * 100

    @property
    def is_change_few(self) -> bool:
        return self.tally.is_few or self.before.is_few


@dataclass(frozen=True, slots=True)
class DayOfFeature:
    """A day in the calendar. Its state: breached where a promise was missed, at_risk where all were kept and an incident
    was open, no_data where nothing was judged; None for a day that has not begun."""

    day: datetime
    """When it begins."""
    state: State | None
    tally: Tally
    """Of the promise that came closest to being missed, or was."""


@dataclass(frozen=True)
class FeatureReport:
    """Everything about one feature. `incident_time` counts once what several incidents lasted at the same time."""

    feature: Feature
    promises: list[Promise]
    days: list[DayOfFeature]
    incidents: int
    incident_time: timedelta

    @property
    def is_kept(self) -> bool | None:
        """Whether every promise of which anything was judged was kept; None where nothing was."""
        kept = [one.tally.is_kept for one in self.promises if one.tally.is_kept is not None]
        return all(kept) if kept else None


@dataclass(frozen=True)
class Report:
    """A report as of an instant, the features that missed a promise first."""

    team: Team
    period: Period
    environment: str
    as_of: datetime
    step: Step
    """What the period is read from: hours, or days of UTC once its hours are kept no more."""
    step_before: Step
    features: list[FeatureReport]
    changes: list[BudgetChange]
    incidents: int
    incident_time: timedelta

    @property
    def is_running(self) -> bool:
        return self.period.is_running(self.as_of)

    @property
    def judged(self) -> list[FeatureReport]:
        """The features of which anything was judged."""
        return [one for one in self.features if one.is_kept is not None]

    @property
    def missed(self) -> list[FeatureReport]:
        return [one for one in self.features if one.is_kept is False]

    @property
    def is_moved(self) -> bool:
        """Whether days begin between two hours of UTC, so that they are moved to a whole one."""
        return self.step == "hour" and self.period.hours != self.period.midnights


def report(*, team: Team, period: Period, environment: str, now: datetime) -> Report:
    """The report of a team, by what is known at `now`, in a number of queries that does not grow with its features.

    Features that were archived before the period or made after it are left out.
    """
    cells, before = _Cells(period, now), _Cells(period.before, now)
    start, end = cells.cuts[0], cells.cuts[-1]
    features = list(
        Feature.objects.filter(Q(archived_at=None) | Q(archived_at__gt=start), team=team).order_by(
            "name", "pk"
        )
    )
    promised = _Promised(features)
    measured = _measure(features, promised, environment, cells, before)
    # A feature that was made later was fed with history, or has nothing to say here.
    features = [one for one in features if one.created_at < end or one.pk in measured.judged_features]
    incidents = _incidents(features, environment, start, min(end, max(now, start)))
    reports = [
        _feature_report(feature, promised, measured, incidents.get(feature.pk, []), cells, now)
        for feature in features
    ]
    reports.sort(key=_worst_first)
    every = [one for several in incidents.values() for one in several]
    return Report(
        team=team,
        period=period,
        environment=environment,
        as_of=now,
        step=cells.step,
        step_before=before.step,
        features=reports,
        changes=promised.changes(features, start, min(end, now)),
        incidents=sum(not one.is_merged for one in every),
        incident_time=total_time(interval for one in every for interval in one.intervals),
    )


def total_time(intervals: Iterable[Interval]) -> timedelta:
    """How long at least one of these half-open intervals held: what overlaps counts once.

    >>> at = lambda hour: datetime(2026, 11, 16, hour, tzinfo=UTC)
    >>> total_time([(at(1), at(3)), (at(2), at(4)), (at(8), at(9))])
    datetime.timedelta(seconds=14400)
    """
    total, until = timedelta(0), datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(intervals):
        total += max(timedelta(0), end - max(start, until))
        until = max(until, end)
    return total


# -- what was promised ------------------------------------------------------------------------------


class _Promised:
    """Every version of the features' latency budgets."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._versions: dict[tuple[int, str], list[LatencyBudget]] = defaultdict(list)
        found = LatencyBudget.objects.filter(feature__in=features).prefetch_related("allocations__component")
        for version in found.order_by("milestone", "version"):
            self._versions[version.feature_id, version.milestone].append(version)

    def instants(self, start: datetime, end: datetime) -> set[datetime]:
        """When, within the range, any version took effect."""
        return {
            version.effective_from
            for versions in self._versions.values()
            for version in versions[1:]
            if start < version.effective_from < end
        }

    def at(self, feature_id: int, milestone: str, at: datetime) -> LatencyBudget | None:
        """The version in force at an instant; None for none and for a retirement."""
        found = None
        for version in self._versions.get((feature_id, milestone), ()):
            if version.version == 1 or version.effective_from <= at:
                found = version
        return None if found is None or found.is_retired else found

    def within(self, feature_id: int, milestone: str, start: datetime, end: datetime) -> list[LatencyBudget]:
        """The versions that held at any time in [start, end), in their order, without retirements."""
        found: list[LatencyBudget] = []
        changed = (version.effective_from for version in self._versions.get((feature_id, milestone), ())[1:])
        for at in sorted({start, *(one for one in changed if start < one < end)}):
            version = self.at(feature_id, milestone, at)
            if version is not None and version not in found:
                found.append(version)
        return found

    def changes(self, features: Sequence[Feature], start: datetime, end: datetime) -> list[BudgetChange]:
        """What took effect in the period, the latest first."""
        by_id = {feature.pk: feature for feature in features}
        found = []
        for (feature_id, milestone), versions in self._versions.items():
            for last, version in pairwise([None, *versions]):
                assert version is not None
                if feature_id in by_id and start <= version.effective_from < end:
                    found.append(_change(by_id[feature_id], milestone, last, version))
        return sorted(found, key=lambda one: (one.at, one.feature.name, one.milestone), reverse=True)


def _change(
    feature: Feature, milestone: str, last: LatencyBudget | None, version: LatencyBudget
) -> BudgetChange:
    old, new = version_document(last), version_document(version)
    whole = old if version.is_retired else None if old else new
    changed = []
    if old and new:
        documents = [{"components": [], "latency_budgets": [one]} for one in (old, new)]
        name = str(Milestone(milestone).label)
        changed = [
            Difference(one.path, one.label.removeprefix(f"{name}: "), one.before, one.after)
            for one in differences(*documents)
            if not one.path.endswith(".note")  # it stands below in full
        ]
    return BudgetChange(
        feature=feature,
        milestone=milestone,
        version=version.version,
        at=version.effective_from,
        author=version.created_by,
        note="" if last is not None and last.note == version.note else version.note,
        words=milestone_words(whole) if whole else "",
        is_retirement=version.is_retired,
        differences=changed,
    )


# -- what was measured ------------------------------------------------------------------------------


class _Cells:
    """The days of a period, as instants at which rollups are cut."""

    def __init__(self, period: Period, now: datetime) -> None:
        kept_since = now - timedelta(days=settings.HOUR_RETENTION_DAYS)
        self.step: Step = "hour" if period.hours[0] > kept_since else "day"
        self.cuts = period.hours if self.step == "hour" else period.utc_days

    @property
    def length(self) -> timedelta:
        return HOUR if self.step == "hour" else DAY

    def day_of(self, at: datetime) -> int:
        return bisect_right(self.cuts, at) - 1


@dataclass
class _Measured:
    """(feature, milestone) → the tally of each day; the whole of the period before; components' counters."""

    days: dict[tuple[int, str], dict[int, Tally]] = field(default_factory=lambda: defaultdict(dict))
    before: dict[tuple[int, str], Tally] = field(default_factory=dict)
    components: dict[int, dict[str, Counts]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def judged_features(self) -> set[int]:
        return {feature_id for feature_id, _ in self.days}


def _measure(
    features: Sequence[Feature], promised: _Promised, environment: str, cells: _Cells, before: _Cells
) -> _Measured:
    series = Series.objects.filter(feature__in=features, environment=environment)
    rows = series.values_list("pk", "feature_id", "milestone", "component__name")
    targets: dict[tuple[int, str | None, str | None], int] = {}
    of_series: dict[int, int] = {}
    for pk, feature_id, milestone, component in rows:
        of_series[pk] = targets.setdefault((feature_id, milestone, component), len(targets))
    names = list(targets)
    milestones = {pk: group for pk, group in of_series.items() if names[group][1] is not None}
    components = {pk: group for pk, group in of_series.items() if names[group][1] is None}

    found = _Measured()
    for these in (before, cells):
        # Also cut where a version took effect, at the first whole step from there on: what an hour holds is counted
        # against the objective that it began with.
        changed = {_ceil(at, these.length) for at in promised.instants(these.cuts[0], these.cuts[-1])}
        cuts = sorted({*these.cuts, *(at for at in changed if at < these.cuts[-1])})
        for group, cell, judged, good in read_group_cells(milestones, cuts, these.length):
            feature_id, of_milestone, _ = names[group]
            if of_milestone is None or not judged:
                continue
            key = feature_id, of_milestone
            tally = _tally(promised, key, cuts[cell], these.length, judged, good)
            if these is before:
                found.before[key] = found.before.get(key, Tally()) + tally
            else:
                day = these.day_of(cuts[cell])
                found.days[key][day] = found.days[key].get(day, Tally()) + tally
    (of_components,) = read_group_counts(components, [Range(cells.cuts[0], cells.cuts[-1])])
    for group, counts in of_components.items():
        feature_id, _, of_component = names[group]
        if of_component is not None:
            found.components[feature_id][of_component] = counts
    return found


def _tally(
    promised: _Promised, key: tuple[int, str], at: datetime, step: timedelta, judged: int, good: int
) -> Tally:
    """What was judged before there was a promise at the beginning of its hour is judged by the first within it."""
    version = promised.at(*key, at)
    if version is None:
        versions = promised.within(*key, at, at + step)
        version = versions[0] if versions else None
    if version is None or version.objective is None:
        return Tally()  # rolled up by a limit that is not there any more
    return Tally(judged, good, (1 - version.objective) * judged)


def _ceil(at: datetime, step: timedelta) -> datetime:
    floor = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if step == DAY:
        floor = floor.replace(hour=0)
    return floor if floor == at else floor + step


# -- incidents --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trouble:
    """An incident, and when within the period it was open."""

    incident: Incident
    intervals: list[Interval]

    @property
    def is_merged(self) -> bool:
        """Whether another one goes on in its place, which counts instead."""
        return self.incident.merged_into_id is not None


def _incidents(
    features: Sequence[Feature], environment: str, start: datetime, end: datetime
) -> dict[int, list[_Trouble]]:
    """Feature → its incidents that were open at any time in [start, end)."""
    found = list(
        Incident.objects.filter(
            Q(resolved_at=None) | Q(resolved_at__gt=start),
            feature__in=features,
            environment=environment,
            opened_at__lt=end,
        )
        .select_related("component")
        .order_by("opened_at", "pk")
    )
    kinds = IncidentEvent.Kind
    steps: dict[int, list[tuple[str, datetime]]] = defaultdict(list)
    # An incident that came back was over in between.
    reopened = [one.pk for one in found if one.reopenings]
    events = IncidentEvent.objects.filter(
        incident__in=reopened, kind__in=[kinds.REOPENED, kinds.RESOLVED, kinds.MERGED]
    )
    for incident_id, kind, at in events.order_by("id").values_list("incident_id", "kind", "at"):
        steps[incident_id].append((kind, at))
    by_feature: dict[int, list[_Trouble]] = defaultdict(list)
    for incident in found:
        intervals = [
            (max(opened, start), min(closed, end))
            for opened, closed in _open_times(incident, steps[incident.pk], end)
            if opened < end and closed > start
        ]
        if intervals:
            by_feature[incident.feature_id].append(_Trouble(incident, intervals))
    return by_feature


def _open_times(incident: Incident, steps: Sequence[tuple[str, datetime]], now: datetime) -> list[Interval]:
    """When the incident was open, from its first step to `now`."""
    times: list[Interval] = []
    opened: datetime | None = incident.opened_at
    for kind, at in steps:
        if kind == IncidentEvent.Kind.REOPENED:
            opened = opened or at
        elif opened is not None:
            times.append((opened, at))
            opened = None
    if opened is not None:
        times.append((opened, incident.resolved_at or now))
    return times


# -- one feature ------------------------------------------------------------------------------------


def _feature_report(
    feature: Feature,
    promised: _Promised,
    measured: _Measured,
    troubles: Sequence[_Trouble],
    cells: _Cells,
    now: datetime,
) -> FeatureReport:
    start, end = cells.cuts[0], cells.cuts[-1]
    versions = {
        milestone: found
        for milestone in Milestone.values
        if (found := promised.within(feature.pk, milestone, start, min(end, max(now, start))))
    }
    belonging = _belonging(troubles, versions)
    promises = [
        _promise(feature, milestone, found, measured, belonging[milestone])
        for milestone, found in versions.items()
    ]
    open_times = [interval for one in troubles for interval in one.intervals]
    return FeatureReport(
        feature=feature,
        promises=promises,
        days=[
            _day(feature, list(versions), measured, open_times, n, day, now)
            for n, day in enumerate(pairwise(cells.cuts))
        ],
        incidents=sum(not one.is_merged for one in troubles),
        incident_time=total_time(open_times),
    )


def _belonging(
    troubles: Sequence[_Trouble], versions: Mapping[str, Sequence[LatencyBudget]]
) -> dict[str, list[_Trouble]]:
    """Milestone → its incidents, with those of the components that were allocated under it. What a component costs that
    is allocated nowhere, the last milestone pays for."""
    found: dict[str, list[_Trouble]] = {milestone: [] for milestone in versions}
    for one in troubles:
        milestone = one.incident.milestone
        if milestone is None:
            milestone = next(
                (
                    its
                    for its, several in versions.items()
                    for version in several
                    if any(a.component_id == one.incident.component_id for a in version.allocations.all())
                ),
                list(versions)[-1] if versions else None,
            )
        if milestone in found:
            found[milestone].append(one)
    return found


def _promise(
    feature: Feature,
    milestone: str,
    versions: Sequence[LatencyBudget],
    measured: _Measured,
    troubles: Sequence[_Trouble],
) -> Promise:
    last = versions[-1]
    assert last.budget_ms is not None
    assert last.objective is not None
    earlier = dict.fromkeys(one.objective for one in versions if one.objective is not None)
    earlier.pop(last.objective)
    key = feature.pk, milestone
    return Promise(
        feature=feature,
        milestone=milestone,
        budget_ms=last.budget_ms,
        objective=last.objective,
        earlier_objectives=tuple(earlier),
        tally=sum(measured.days.get(key, {}).values(), Tally()),
        before=measured.before.get(key, Tally()),
        incidents=sum(not one.is_merged for one in troubles),
        incident_time=total_time(interval for one in troubles for interval in one.intervals),
        cause=_cause(troubles, last, measured.components.get(feature.pk, {})),
    )


def _cause(
    troubles: Sequence[_Trouble], version: LatencyBudget, components: Mapping[str, Counts]
) -> Cause | None:
    """The component that made most of the incidents' slow requests slow; where no request tells, the one that they name for
    longest; without any, the one that was most often over its allocation, if that breached it."""
    excess: dict[str | None, float] = defaultdict(float)
    lasted: dict[str, float] = defaultdict(float)
    for one in troubles:
        attribution = one.incident.attribution or {}
        if attribution.get("by") == "requests":
            for share in attribution["components"]:
                excess[share["component"]] += (share["excess_ms"] or 0.0) * attribution["over"]
        named = one.incident.component.name if one.incident.component else None
        if named is None and one.incident.cause:
            named = one.incident.cause["component"]
        if named is not None:
            lasted[named] += total_time(one.intervals).total_seconds()
    if excess and max(excess.values()) > 0:
        return Cause(max(excess, key=lambda name: (excess[name], name or "")), "requests")
    if lasted:
        return Cause(max(lasted, key=lambda name: (lasted[name], name)), "incidents")
    over = {
        name: counts.over / counts.judged
        for allocation in version.allocations.all()
        if (counts := components.get(name := allocation.component.name)) is not None
        and component_state(counts.over, counts.judged, counts.total, version.objective, True)
        == State.BREACHED
    }
    if not over:
        return None
    worst = max(over, key=lambda name: (over[name], name))
    return Cause(worst, "allocation", over[worst])


def _day(
    feature: Feature,
    milestones: Sequence[str],
    measured: _Measured,
    open_times: Sequence[Interval],
    number: int,
    day: Interval,
    now: datetime,
) -> DayOfFeature:
    start, end = day
    tallies = [
        tally
        for milestone in milestones
        if (tally := measured.days.get((feature.pk, milestone), {}).get(number)) is not None and tally.judged
    ]
    worst = max(tallies, key=lambda one: one.used_ratio or 0.0, default=Tally())
    state: State | None = State.OK
    if start > now:
        state = None
    elif any(one.is_kept is False for one in tallies):
        state = State.BREACHED
    elif any(opened < end and closed > start for opened, closed in open_times):
        state = State.AT_RISK
    elif not tallies:
        state = State.NO_DATA
    return DayOfFeature(start, state, worst)


def _worst_first(one: FeatureReport) -> tuple[int, float, str]:
    order = {False: 0, True: 1, None: 2}
    used = [ratio for promise in one.promises if (ratio := promise.tally.used_ratio) is not None]
    return order[one.is_kept], -max(used, default=0.0), one.feature.name.casefold()
