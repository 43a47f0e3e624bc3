"""A report as a mail: text and HTML, with the way out of it in its head and at its end.

One click ends a subscription, in the mail program itself by RFC 8058 or by the link. A link alone changes nothing when it
is opened, because programs that look for harm open every link of a mail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import urlencode

from budgets import formats
from budgets.models import Milestone

from .models import ReportMail
from .outbound import message_id
from .report_periods import Period
from .report_subscriptions import unsubscribe_url
from .report_words import cause_words, minutes, notes, points, sentences, title
from .reports import BudgetChange, Promise, Report
from .wall_clocks import in_zone

MAX_FEATURES: Final = 50
"""So many features a mail tells about; the page has them all."""
MAX_SUBJECT_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class LetterLine:
    """A promise in one row of the mail."""

    name: str
    milestone: str
    promise: str
    mark: str
    word: str
    achieved: str
    change: str
    used: str
    incidents: str
    cause: str

    @property
    def details(self) -> list[str]:
        """What is known beside what was achieved, each in a few words."""
        found = []
        if self.change != formats.NONE:
            found.append(f"change {self.change} percentage points")
        if self.used != formats.NONE:
            found.append(f"{self.used} of the error budget used")
        if self.incidents != "0":
            found.append(f"incidents: {self.incidents}")
        if self.cause:
            found.append(f"main cause {self.cause}")
        return found

    @property
    def text(self) -> str:
        said = f"{self.mark} {self.name}, {self.milestone}: {self.word}"
        return "; ".join([f"{said}. {self.achieved}, promised {self.promise}", *self.details])


@dataclass(frozen=True, slots=True)
class ReportLetter:
    subject: str
    title: str
    about: str
    sentences: list[str]
    notes: list[str]
    lines: list[LetterLine]
    left_out: int
    changes: list[str]
    page_url: str
    unsubscribe_url: str
    team: str
    adjective: str


def report_mail(report: Report, row: ReportMail, *, to: str) -> EmailMultiAlternatives:
    """The mail of a report to a person, under the Message-ID of its row."""
    letter = _letter(report, row)
    made = EmailMultiAlternatives(
        subject=letter.subject,
        body=render_to_string("reports/email/report.txt", {"letter": letter}),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[to],
        headers={
            "Message-ID": message_id(f"report-{row.message_id}"),
            # Out-of-office notes must not answer (RFC 3834).
            "Auto-Submitted": "auto-generated",
            "List-Unsubscribe": f"<{letter.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
    )
    made.attach_alternative(render_to_string("reports/email/report.html", {"letter": letter}), "text/html")
    return made


def report_url(period: Period, *, team_slug: str, environment: str) -> str:
    """The report's page, as it can be passed on."""
    query = {
        "period": str(period.kind),
        "start": period.first_day.isoformat(),
        "environment": environment,
        "zone": period.time_zone,
    }
    return f"{settings.PUBLIC_URL}{reverse('team-report', args=[team_slug])}?{urlencode(query)}"


def _letter(report: Report, row: ReportMail) -> ReportLetter:
    period, team = report.period, formats.name(report.team.name)
    shown = report.features[:MAX_FEATURES]
    return ReportLetter(
        subject=_subject(report, team),
        title=f"{title(period)}: {team}",
        about=f"Environment {formats.name(report.environment)}. Days by the clock of {period.time_zone}.",
        sentences=sentences(report),
        notes=notes(report),
        lines=[_line(promise) for one in shown for promise in one.promises],
        left_out=len(report.features) - len(shown),
        changes=[_change(change, period) for change in report.changes],
        page_url=report_url(period, team_slug=report.team.slug, environment=report.environment),
        unsubscribe_url=unsubscribe_url(user_id=row.user_id, team_id=row.team_id, period=row.period),
        team=team,
        adjective=period.kind.adjective,
    )


def _subject(report: Report, team: str) -> str:
    judged = len(report.judged)
    kept = judged - len(report.missed)
    came = f"{kept} of {judged} kept" if judged else "nothing measured"
    # What says least is cut, not what came of it.
    room = MAX_SUBJECT_CHARACTERS - len(came) - len(report.period.name) - 4
    return " ".join(f"{team[:room]}, {report.period.span}: {came}".split())


def _line(promise: Promise) -> LetterLine:
    tally = promise.tally
    mark, word = {True: ("✓", "kept"), False: ("✕", "missed"), None: ("–", "no data")}[tally.is_kept]
    achieved = formats.percent(tally.achieved_ratio, near=promise.objective)
    if tally.judged:
        achieved += f" of {formats.count(tally.judged)}"
    incidents = str(promise.incidents)
    if promise.incident_time:
        incidents += f" ({minutes(promise.incident_time)})"
    change = points(promise.change_points)
    return LetterLine(
        name=formats.name(promise.feature.name),
        milestone=str(Milestone(promise.milestone).label).lower(),
        promise=f"{formats.objective(promise.objective)} within {formats.limit(promise.budget_ms)}",
        mark=mark,
        word=word,
        achieved=achieved,
        change=f"{change} (few)" if promise.change_points is not None and promise.is_change_few else change,
        used=formats.percent(tally.used_ratio, near=1),
        incidents=incidents,
        # Of a promise that was kept without an incident, nothing needs a cause.
        cause=cause_words(promise.cause) if promise.incidents or tally.is_kept is False else "",
    )


def _change(change: BudgetChange, period: Period) -> str:
    milestone = str(Milestone(change.milestone).label).lower()
    text = (
        f"{formats.name(change.feature.name)}, {milestone}, version {change.version} by "
        f"{formats.name(change.author) or 'unknown'}, {in_zone(change.at, period.time_zone)}: {formats.name(change.words_in_line)}"
    )
    return f"{text}. {formats.name(change.note)}" if change.note else text
