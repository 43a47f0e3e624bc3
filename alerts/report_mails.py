"""Reports by mail: one a person, team and period, sent by whichever worker has claimed its row.

1. `write_due` writes a row for every subscription whose time has come, which the database takes once a period, and moves
   the subscription on to the next. Two beats at once write the same row, and one of them is let go.
2. `claim` leases a row to one worker, `send` sends it outside every transaction and writes down what came of it. What a
   mail server that is away does not take is tried again for a day.

A worker that dies leaves its lease to run out, and the mail is sent by another. It may have died after the mail server
had the mail: the second one comes under the same Message-ID, by which mail servers drop a copy.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from budgets.zones import is_zone

from .backoff import GIVE_UP_AFTER, next_attempt_at
from .models import ReportMail, ReportSubscription
from .outbound import DeliveryError, reaches_people, send_mail
from .report_letters import report_mail
from .report_periods import Kind, Period, last_mailed
from .report_subscriptions import next_due_at
from .reports import report

log = logging.getLogger(__name__)

State = ReportMail.State

LEASE: Final = timedelta(minutes=2)
"""A worker that has not written down what came of it by then is gone: a mail takes 10 s, its report less."""
WRITTEN_AT_ONCE: Final = 500
KEPT_FOR: Final = timedelta(days=400)
MAX_ERROR_CHARACTERS: Final = 1_000


def write_due(*, now: datetime) -> int:
    """Writes the mails of the subscriptions whose time has come; how many. None where no mail server is named: they wait.

    Who was not told for several periods gets the report of the last one.
    """
    if not reaches_people():
        return 0
    _give_up_old(now)
    with transaction.atomic():
        due = list(
            ReportSubscription.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(due_at__lte=now, membership__user__is_active=True)
            .select_related("membership")
            .order_by("due_at", "pk")[:WRITTEN_AT_ONCE]
        )
        written = ReportMail.objects.bulk_create(
            [_mail_of(one, now) for one in due],
            # The row of a period that is there already is the one: it was sent, or will be.
            ignore_conflicts=True,
        )
        for one in due:
            one.due_at = next_due_at(Kind(one.period), _zone_of(one), now=now)
        ReportSubscription.objects.bulk_update(due, ["due_at"])
    return len(written)


def _give_up_old(now: datetime) -> None:
    """Whatever kept a mail from being sent for a day, e.g. a worker that dies of it, goes on."""
    old = ReportMail.objects.claimable(now).filter(created_at__lt=now - GIVE_UP_AFTER)
    old.update(
        state=State.GIVEN_UP,
        reason="deadline_passed",
        finished_at=now,
        next_attempt_at=None,
        leased_until=None,
    )


def _mail_of(subscription: ReportSubscription, now: datetime) -> ReportMail:
    zone = _zone_of(subscription)
    period = last_mailed(Kind(subscription.period), now, zone)
    return ReportMail(
        user_id=subscription.membership.user_id,
        team_id=subscription.membership.team_id,
        period=subscription.period,
        first_day=period.first_day,
        environment=subscription.environment,
        time_zone=zone,
        created_at=now,
        next_attempt_at=now,
    )


def _zone_of(subscription: ReportSubscription) -> str:
    """UTC where the time-zone database has lost a name that it had."""
    return subscription.time_zone if is_zone(subscription.time_zone) else "UTC"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this worker alone may send until its lease is over."""

    mail: ReportMail
    attempt: int


def claim(*, now: datetime) -> Claimed | None:
    """Leases a mail that is due, longest due first; None where there is none, or no mail server."""
    if not reaches_people():
        return None
    with transaction.atomic():
        mail = (
            ReportMail.objects.claimable(now)
            .select_for_update(skip_locked=True, of=("self",))
            .select_related("user", "team")
            .order_by("next_attempt_at", "pk")
            .first()
        )
        if mail is None:
            return None
        mail.attempts_made += 1
        mail.leased_until = now + LEASE
        mail.save(update_fields=["attempts_made", "leased_until"])
    return Claimed(mail, mail.attempts_made)


def send(*, claimed: Claimed, now: datetime) -> bool:
    """Sends it and writes down what came of it; whether it was sent.

    Who has left the team, unsubscribed or whose account was closed since gets nothing.
    """
    mail = claimed.mail
    if reason := _why_not(mail):
        _finish(claimed, State.GIVEN_UP, now, reason=reason)
        return False
    period = Period(Kind(mail.period), mail.first_day, mail.time_zone)
    found = report(team=mail.team, period=period, environment=mail.environment, now=now)
    try:
        send_mail(report_mail(found, mail, to=mail.user.email))
    except DeliveryError as error:
        _note_failure(claimed, error, now)
        return False
    _finish(claimed, State.SENT, now)
    return True


def forget(*, now: datetime) -> int:
    """Deletes the rows of mails of which nobody asks any more; how many."""
    deleted, _ = (
        ReportMail.objects.filter(created_at__lt=now - KEPT_FOR).exclude(state=State.PENDING).delete()
    )
    return deleted


def _why_not(mail: ReportMail) -> str:
    if not mail.user.is_active:
        return "account_closed"
    wanted = ReportSubscription.objects.filter(
        membership__user=mail.user_id, membership__team=mail.team_id, period=mail.period
    )
    return "" if wanted.exists() else "unsubscribed"


def _note_failure(claimed: Claimed, error: DeliveryError, now: datetime) -> None:
    mail = claimed.mail
    retry_at = next_attempt_at(
        attempts_made=claimed.attempt,
        first_due_at=mail.created_at,
        now=now,
        retry_after_s=error.retry_after_s,
    )
    if error.permanent or retry_at is None:
        log.warning("report mail %s is given up: %s", mail.pk, error.message)
        reason = "permanent_error" if error.permanent else "deadline_passed"
        _finish(claimed, State.GIVEN_UP, now, reason=reason, error=error.message)
        return
    ReportMail.objects.filter(pk=mail.pk, state=State.PENDING, attempts_made=claimed.attempt).update(
        next_attempt_at=retry_at, leased_until=None, error=error.message[:MAX_ERROR_CHARACTERS]
    )


def _finish(
    claimed: Claimed, state: ReportMail.State, now: datetime, *, reason: str = "", error: str = ""
) -> None:
    # Whoever holds a newer lease: it has arrived. What was not sent, the other may have more luck with.
    unfinished = ReportMail.objects.filter(pk=claimed.mail.pk, state=State.PENDING)
    found = unfinished if state == State.SENT else unfinished.filter(attempts_made=claimed.attempt)
    found.update(
        state=state,
        reason=reason,
        error=error[:MAX_ERROR_CHARACTERS],
        finished_at=now,
        next_attempt_at=None,
        leased_until=None,
    )
