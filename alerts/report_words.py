"""A report in words: sentences that somebody forwards to people who open no dashboard. Plain text; names are hostile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from budgets import formats
from budgets.models import Milestone

from .report_periods import Period
from .reports import Cause, FeatureReport, Promise, Report

# So many features are told about one by one; of the others how many they are.
NAMED: Final = 3
# A promise that was kept with less than a quarter of its error budget left is told about, too.
CLOSE: Final = 0.75

_REACHED: Final = {
    Milestone.FIRST_TOKEN: "gave its first token within",
    Milestone.COMPLETE: "was complete within",
}


def sentences(report: Report) -> list[str]:
    """What the report says, in the order in which somebody asks: kept or not, which not and why, incidents, changes."""
    if not report.features:
        return [f"{report.period.opening(report.as_of)} this team had no feature."]
    if report.period.is_ahead(report.as_of):
        return [headline(report)]
    return [
        headline(report),
        *_about_missed(report),
        *_about_close(report),
        *_about_few(report),
        *_about_incidents(report),
        *_about_changes(report),
    ]


def headline(report: Report) -> str:
    """ "Last week (16–22 November 2026) 3 of 4 features kept their promise."."""
    opening, judged = report.period.opening(report.as_of), report.judged
    silent = [one for one in report.features if one.is_kept is None]
    if report.period.is_ahead(report.as_of):
        return f"{report.period.span} is yet to come."
    if not judged:
        return f"{opening} nothing was measured against a latency budget."
    kept = len(judged) - len(report.missed)
    if len(judged) == 1:
        verb = "kept its promise" if kept else "did not keep its promise"
        text = f"{opening} {_name(judged[0])} {verb}."
    elif kept == len(judged):
        text = f"{opening} all {kept} features kept their promise."
    else:
        text = f"{opening} {kept or 'none'} of {len(judged)} features kept their promise."
    if silent:
        were = "was" if len(silent) == 1 else "were"
        who = _name(silent[0]) if len(silent) == 1 else f"{len(silent)} others"
        text += f" {who} {were} not measured against a latency budget."
    return text


def cause_words(cause: Cause | None) -> str:
    """The component by its name; "" where none stands out."""
    if cause is None:
        return ""
    return (
        "time outside its measured components" if cause.component is None else formats.name(cause.component)
    )


def cause_detail(cause: Cause | None) -> str:
    """How it is known to be the cause."""
    if cause is None:
        return ""
    match cause.by:
        case "requests":
            return "most of the incidents' excess time"
        case "incidents":
            return "named by incidents for longest"
    return f"over its allocation: {formats.percent(cause.over_ratio)}"


def points(value: float | None) -> str:
    """A change in percentage points: "+0.42", "−1.3", "0"."""
    if value is None:
        return formats.NONE
    text = formats.significant(value, digits=2)
    return f"+{text}" if value > 0 else text


def minutes(time: timedelta) -> str:
    """How long, in words: "2 h 10 min"; less than a minute is said as that."""
    seconds = time.total_seconds()
    return f"under 1{formats.NBSP}min" if 0 < seconds < 60 else formats.lasting(seconds // 60 * 60)


def notes(report: Report) -> list[str]:
    """What a reader must know to read the figures right."""
    period, found = report.period, []
    if report.is_running:
        found.append(
            f"The {period.kind} is not over: these are its figures so far, compared with the whole {period.kind} before."
        )
    if report.step == "day" and period.time_zone != "UTC":
        found.append(
            "Rollups by the hour are not kept for so long: here each day is UTC's, not that of the time zone."
        )
    elif report.step_before == "day" and period.time_zone != "UTC":
        found.append(
            f"Of the {period.kind} before, rollups by the hour are not kept any more: its days are UTC's."
        )
    if report.is_moved:
        found.append(
            f"In {period.time_zone} midnight lies between two hours of UTC, by which rollups are kept: each day begins with "
            "the hour in which midnight lies."
        )
    return found


def _about_missed(report: Report) -> list[str]:
    found = [_missed(one, report.period) for one in report.missed[:NAMED]]
    more = len(report.missed) - NAMED
    if more > 0:
        found.append(
            f"{more} more {'feature' if more == 1 else 'features'} did not keep {'its' if more == 1 else 'their'} promise."
        )
    return found


def _missed(one: FeatureReport, period: Period) -> str:
    missed = [promise for promise in one.promises if promise.tally.is_kept is False]
    said = [_fell_short(promise, period) for promise in missed]
    text = f"{_name(one)} {' and '.join(said)}"
    causes = dict.fromkeys(cause_words(promise.cause) for promise in missed if promise.cause)
    if not causes:
        return f"{text}."
    return f"{text}; the main {'cause was' if len(causes) == 1 else 'causes were'} {_list(list(causes))}."


def _fell_short(promise: Promise, period: Period) -> str:
    """ "gave its first token within 3 s in 98.2 % of requests, where 99 % was promised (1.3 percentage points less …)"."""
    text = (
        f"{_REACHED[Milestone(promise.milestone)]} {formats.limit(promise.budget_ms)} in "
        f"{formats.percent(promise.tally.achieved_ratio, near=promise.objective)} of requests, where "
        f"{formats.objective(promise.objective)} was promised"
    )
    change = promise.change_points
    if change is None or promise.is_change_few or not change:
        return text
    direction = "more" if change > 0 else "less"
    by = formats.significant(abs(change), digits=2)
    return f"{text} ({by} percentage points {direction} than the {period.kind} before)"


def _about_close(report: Report) -> list[str]:
    close = [
        (promise.tally.used_ratio, one)
        for one in report.features
        if one.is_kept and (promise := _tightest(one)) is not None and promise.tally.used_ratio is not None
        if promise.tally.used_ratio >= CLOSE
    ]
    if not close:
        return []
    said = [
        f"{_name(one)} ({formats.percent(used, near=1)} of its error budget used)"
        for used, one in close[:NAMED]
    ]
    return [f"Kept with little to spare: {_list(said)}."]


def _tightest(one: FeatureReport) -> Promise | None:
    judged = [promise for promise in one.promises if promise.tally.used_ratio is not None]
    return max(judged, key=lambda promise: promise.tally.used_ratio or 0.0, default=None)


def _about_few(report: Report) -> list[str]:
    few = [one for one in report.judged if all(p.tally.is_few or not p.tally.judged for p in one.promises)]
    if not few:
        return []
    said = []
    for one in few[:NAMED]:
        most = max(promise.tally.judged for promise in one.promises)
        said.append(f"{_name(one)} ({formats.count(most)})")
    whose = "its" if len(few) == 1 else "their"
    return [f"Few requests were judged of {_list(said)}: {whose} figures say little."]


def _about_incidents(report: Report) -> list[str]:
    if not report.incidents:
        return ["There was no incident."] if not report.incident_time else []
    number = "There was 1 incident" if report.incidents == 1 else f"There were {report.incidents} incidents"
    lasted = minutes(report.incident_time)
    return [f"{number}, {lasted}." if report.incidents == 1 else f"{number}, {lasted} in all."]


def _about_changes(report: Report) -> list[str]:
    if not report.changes:
        return []
    names = list(dict.fromkeys(formats.name(one.feature.name) for one in reversed(report.changes)))
    what, was = ("latency budget", "was") if len(report.changes) == 1 else ("latency budgets", "were")
    first = sum(one.is_first for one in report.changes)
    done = "declared" if first == len(report.changes) else "declared or changed" if first else "changed"
    shown = names[:NAMED]
    if len(names) > NAMED:
        shown.append(f"{len(names) - NAMED} more")
    return [f"The {what} of {_list(shown)} {was} {done}."]


def _list(texts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _name(one: FeatureReport) -> str:
    return formats.name(one.feature.name)


def title(period: Period) -> str:
    """ "Weekly report, week 47 …": what a page and a mail are called."""
    return f"{period.kind.adjective.capitalize()} report, {period.name[0].lower() + period.name[1:] if period.kind == 'week' else period.name}"
