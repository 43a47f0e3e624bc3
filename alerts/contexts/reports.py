"""What the page of a team's report shows, and what its CSV holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from django.http import QueryDict
from django.urls import reverse

from alerts import report_words
from alerts.models import ReportMail, ReportSubscription
from alerts.report_periods import (
    MAILED_AT,
    Kind,
    Period,
    UnknownPeriod,
    containing,
    last_finished,
    running,
)
from alerts.reports import BudgetChange, DayOfFeature, FeatureReport, Promise, Report
from alerts.wall_clocks import in_zone
from budgets import formats
from budgets.burn_rates import State
from budgets.contexts.frame import View, asked_environment, page_url
from budgets.contexts.parts import milestone_name
from budgets.differences import Difference
from budgets.instants import rfc3339
from budgets.models import Membership, Team
from budgets.zones import is_zone


@dataclass(frozen=True)
class Asked:
    """What an address asks for. `is_whole` where it says all of it, so that it shows the same tomorrow."""

    period: Period
    environment: str
    is_whole: bool

    def query(self, **other: str) -> dict[str, str]:
        period = self.period
        return {
            "period": str(period.kind),
            "start": period.first_day.isoformat(),
            "environment": self.environment,
            "zone": period.time_zone,
            **other,
        }

    def url(self, name: str, team: Team, **other: str) -> str:
        return page_url(name, team.slug, **self.query(**other))


def read_address(query: QueryDict, *, team: Team, now: datetime) -> Asked:
    """What the query asks for: without a start, the last week or month that is over, and without a zone the team's. Raises ValueError, which says what
    cannot be read.

    A start within a week or month is that week's or month's.
    """
    kind = query.get("period") or Kind.WEEK
    if kind not in list(Kind):
        raise ValueError(f"period is week or month, not {kind!r:.50}")
    zone = query.get("zone") or zone_name_of(team)
    if not is_zone(zone):
        raise ValueError(f"zone is the IANA name of a time zone such as Europe/Berlin, not {zone!r:.50}")
    environment, start = asked_environment(query.get("environment")), query.get("start")
    if not start:
        return Asked(last_finished(Kind(kind), now, zone), environment, is_whole=False)
    try:
        day = date.fromisoformat(start)
        period = containing(Kind(kind), day, zone)
    except UnknownPeriod as error:
        raise ValueError(f"start lies too far away: {error}") from error
    except ValueError as error:
        raise ValueError(f"start is a day such as {now:%Y-%m-%d}, not {start!r:.50}") from error
    is_whole = day == period.first_day and "period" in query and "zone" in query
    return Asked(period, environment, is_whole)


def zone_name_of(team: Team) -> str:
    """The zone by whose days the team's reports are, unless an address names another."""
    return team.time_zone if is_zone(team.time_zone) else "UTC"


@dataclass(frozen=True)
class DayCell:
    """A day in the calendar of a feature, in words."""

    day: date
    state: str
    word: str
    detail: str


_WORDS: Final = {
    State.BREACHED: "Missed",
    State.AT_RISK: "Incident",
    State.OK: "Kept",
    State.NO_DATA: "No data",
    None: "To come",
}


@dataclass(frozen=True)
class PromiseLine:
    """A row of the table."""

    promise: Promise
    name: str
    url: str
    state: str
    word: str
    change: str
    used: str
    incident_time: str
    cause: str
    cause_detail: str


@dataclass(frozen=True)
class FeatureGroup:
    """The rows of one feature, and its calendar."""

    feature: FeatureReport
    url: str
    lines: list[PromiseLine]
    days: list[DayCell]


@dataclass(frozen=True)
class ChangeLine:
    change: BudgetChange
    name: str
    url: str
    at: str
    differences: Sequence[Difference]


@dataclass(frozen=True)
class KindLink:
    name: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class ReportPage:
    """A report as its page shows it."""

    report: Report
    asked: Asked
    title: str
    sentences: list[str]
    notes: list[str]
    groups: list[FeatureGroup]
    changes: list[ChangeLine]
    kinds: list[KindLink]
    previous_url: str
    next_url: str
    """"" where the next one has not begun."""
    csv_url: str
    overview_url: str
    legend: list[tuple[str, str, str]]
    """State, word, meaning."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured against a promise, so that a table would say nothing."""
        return not self.report.judged and not self.report.incidents

    @property
    def verdict(self) -> str:
        if not self.report.judged:
            return str(State.NO_DATA)
        return str(State.BREACHED if self.report.missed else State.OK)

    @property
    def is_calendar_long(self) -> bool:
        return self.report.period.kind is Kind.MONTH


def report_page(report: Report, asked: Asked) -> ReportPage:
    """The page of a report; it asks the database nothing."""
    period, team, now = report.period, report.team, report.as_of
    return ReportPage(
        report=report,
        asked=asked,
        title=report_words.title(period),
        sentences=report_words.sentences(report),
        notes=report_words.notes(report),
        groups=_groups(report),
        changes=[_change(one, report) for one in report.changes],
        kinds=[_kind_link(kind, asked, team, now) for kind in Kind],
        previous_url=_url_of(period.before, asked, team),
        next_url="" if period.after.is_ahead(now) else _url_of(period.after, asked, team),
        csv_url=asked.url("team-report-csv", team),
        overview_url=page_url("overview", environment=asked.environment),
        legend=_legend(report),
    )


def _url_of(period: Period, asked: Asked, team: Team) -> str:
    return Asked(period, asked.environment, is_whole=True).url("team-report", team)


def _kind_link(kind: Kind, asked: Asked, team: Team, now: datetime) -> KindLink:
    """The week that a month ends with, or the month that a week lies in, of what is over."""
    period = asked.period
    if kind is not period.kind:
        period = min(
            period.as_kind(kind),
            running(kind, now, period.time_zone),
            key=lambda one: one.first_day,
        )
    return KindLink(kind.adjective.capitalize(), _url_of(period, asked, team), kind is asked.period.kind)


def _groups(report: Report) -> list[FeatureGroup]:
    promises = [promise for one in report.features for promise in one.promises]
    changes = iter(formats.column([promise.change_points for promise in promises], signed=True))
    found = []
    for one in report.features:
        days = [_cell(day, one_day) for day, one_day in zip(report.period.days, one.days, strict=True)]
        url = page_url("feature", one.feature.slug, **_view(report).query)
        found.append(FeatureGroup(one, url, _lines(one, report, changes), days))
    return found


def _view(report: Report) -> View:
    """The report's period, as the pages of its features show it."""
    start, *_, end = report.period.midnights
    return View(report.environment, as_of=end, now=end, start=start, end=end)


def _lines(one: FeatureReport, report: Report, changes: Iterator[str]) -> list[PromiseLine]:
    return [
        PromiseLine(
            promise=promise,
            name=milestone_name(promise.milestone),
            url=page_url(
                "feature",
                one.feature.slug,
                **{"milestone": promise.milestone, **_view(report).query},
            ),
            state=str(_state(promise)),
            word=promise_word(promise),
            change=next(changes),
            used=formats.percent(promise.tally.used_ratio, near=1),
            incident_time=report_words.minutes(promise.incident_time),
            cause=report_words.cause_words(promise.cause),
            cause_detail=report_words.cause_detail(promise.cause),
        )
        for promise in one.promises
    ]


def _state(promise: Promise) -> State:
    match promise.tally.is_kept:
        case None:
            return State.NO_DATA
        case True:
            return State.OK
    return State.BREACHED


def promise_word(promise: Promise) -> str:
    """Kept, Missed or No data."""
    return _WORDS[_state(promise)]


def _cell(day: date, one: DayOfFeature) -> DayCell:
    word = _WORDS[one.state]
    detail = f"{day:%A} {day.day} {day:%B}: {word}"
    if one.tally.judged:
        detail += f", {formats.percent(one.tally.achieved_ratio)} of {formats.count(one.tally.judged)}"
    return DayCell(day, "ahead" if one.state is None else str(one.state), word, detail)


def _legend(report: Report) -> list[tuple[str, str, str]]:
    meanings = {
        State.OK: "every promise was kept on that day",
        State.BREACHED: "a promise was missed on that day",
        State.AT_RISK: "promises were kept, and an incident was open",
        State.NO_DATA: "nothing was measured",
    }
    met = {day.state for one in report.features for day in one.days}
    return [(str(state), _WORDS[state], meaning) for state, meaning in meanings.items() if state in met]


def _change(one: BudgetChange, report: Report) -> ChangeLine:
    anchor = f"#{one.milestone}-{one.version}"
    return ChangeLine(
        change=one,
        name=milestone_name(one.milestone),
        url=reverse("feature-versions", args=[one.feature.slug]) + anchor,
        at=in_zone(one.at, report.period.time_zone),
        differences=one.differences,
    )


# -- subscriptions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubscriptionLine:
    """Weekly or monthly, and whether the person gets it."""

    kind: Kind
    subscription: ReportSubscription | None
    when: str
    """When the next one is sent."""
    outcome: str

    @property
    def adjective(self) -> str:
        return self.kind.adjective

    @property
    def rhythm(self) -> str:
        day = "every Monday" if self.kind is Kind.WEEK else "on the first of every month"
        return f"{day} at {MAILED_AT:%H:%M}"


def subscription_lines(membership: Membership) -> list[SubscriptionLine]:
    """Of the week and of the month, as many queries whatever was sent."""
    found = {one.period: one for one in ReportSubscription.objects.filter(membership=membership)}
    mails = ReportMail.objects.filter(user=membership.user_id, team=membership.team_id)
    last = {one.period: one for one in mails.order_by("period", "-first_day").distinct("period")}
    return [
        SubscriptionLine(
            kind,
            one := found.get(str(kind)),
            in_zone(one.due_at, one.time_zone) if one is not None else "",
            _outcome(last.get(str(kind))),
        )
        for kind in Kind
    ]


def _outcome(mail: ReportMail | None) -> str:
    """What came of the last mail; "" where there was none."""
    if mail is None:
        return ""
    span = Period(Kind(mail.period), mail.first_day, mail.time_zone).span
    match mail.state:
        case ReportMail.State.SENT:
            assert mail.finished_at is not None
            return f"The last one, of {span}, was sent on {in_zone(mail.finished_at, mail.time_zone)}."
        case ReportMail.State.PENDING:
            why = f": {mail.error}" if mail.error else ""
            return f"The last one, of {span}, is on its way{why}"
    if mail.reason == "unsubscribed":
        return ""
    return f"The last one, of {span}, was not sent: {mail.error or mail.reason.replace('_', ' ')}"


# -- CSV --------------------------------------------------------------------------------------------

CSV_FIELDS: Final = (
    "team",
    "environment",
    "period",
    "first_day",
    "last_day",
    "time_zone",
    "as_of",
    "feature",
    "feature_name",
    "milestone",
    "latency_budget_ms",
    "objective_ratio",
    "kept",
    "judged",
    "good",
    "achieved_ratio",
    "achieved_before_ratio",
    "judged_before",
    "change_percentage_points",
    "few",
    "error_budget_used_ratio",
    "incidents",
    "incident_minutes",
    "main_cause",
    "budget_changes",
)


def records(report: Report) -> Iterator[list[object]]:
    """A row a promise, in full precision; empty where there is no data."""
    period = report.period
    head = [
        report.team.slug,
        report.environment,
        str(period.kind),
        period.first_day.isoformat(),
        period.last_day.isoformat(),
        period.time_zone,
        rfc3339(report.as_of),
    ]
    for one in report.features:
        for promise in one.promises:
            tally, before = promise.tally, promise.before
            yield [
                *head,
                one.feature.slug,
                one.feature.name,
                promise.milestone,
                float(promise.budget_ms),
                float(promise.objective),
                "" if tally.is_kept is None else "yes" if tally.is_kept else "no",
                tally.judged,
                tally.good,
                _figure(tally.achieved_ratio),
                _figure(before.achieved_ratio),
                before.judged,
                _figure(promise.change_points),
                "yes" if promise.is_change_few else "no",
                _figure(tally.used_ratio),
                promise.incidents,
                _figure(promise.incident_time.total_seconds() / 60),
                report_words.cause_words(promise.cause),
                "; ".join(_in_a_cell(change, period) for change in _changes_of(promise, report)),
            ]


def _changes_of(promise: Promise, report: Report) -> list[BudgetChange]:
    return [
        one
        for one in reversed(report.changes)
        if (one.feature.pk, one.milestone) == (promise.feature.pk, promise.milestone)
    ]


def _in_a_cell(change: BudgetChange, period: Period) -> str:
    """ "version 3 by ada@example.com on Wed 18 Nov, 12:00 UTC: objective 99 % → 99.9 % (why)"."""
    text = (
        f"version {change.version} by {change.author or 'unknown'} on {in_zone(change.at, period.time_zone)}: "
        f"{change.words_in_line}"
    )
    return f"{text} ({change.note})" if change.note else text


def _figure(value: float | None) -> object:
    return "" if value is None else round(value, 10)
