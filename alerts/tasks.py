"""What the workers do for alerts: each task is one verb, safe to run twice and at the same time."""

from __future__ import annotations

import logging
import time

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from budgets import doorbell, request_ids
from budgets.models import Sweep

from . import evaluation, follow_ups, living_alerts, locks, notifications, report_mails, watcher

log = logging.getLogger(__name__)

# A thread that goes on sending what is due to one channel lets others have a turn after so long.
DRAIN_FOR_S = 20.0
# More than the threads could send before the next sweep asks again.
DUE_PER_SWEEP = 200
FOLLOW_UPS_PER_SWEEP = 500


@shared_task
def evaluate(feature_ids: list[int] | None = None) -> None:
    """Evaluates the features that a roll-up touched; without any, all of them."""
    now = timezone.now()
    if feature_ids is not None:
        done: evaluation.Evaluated | None = evaluation.evaluate(
            feature_ids=feature_ids, now=now, with_slow=False
        )
    else:
        done = evaluation.sweep(now=now)
        if done is not None:
            for name in ("evaluate", *(() if done.failed else (watcher.EVERY_FEATURE,))):
                Sweep.objects.update_or_create(name=name, defaults={"finished_at": timezone.now()})
    if done is not None and (feature_ids is not None or done.opened or done.raised or done.resolved):
        moved = {"opened": done.opened, "raised": done.raised, "resolved": done.resolved}
        log.info(
            "evaluated %s features: incidents opened %s, raised %s, resolved %s",
            done.features,
            *map(list, moved.values()),
            extra={"features": done.features, **moved},
        )


@shared_task
def follow_up() -> None:
    """Does what became due for incidents by the clock: escalation, updates, repetitions, releases."""
    with locks.try_hold(locks.FOLLOW_UP_SWEEP) as is_ours:
        if is_ours:
            _follow_up_due()


def _follow_up_due() -> None:
    started = time.monotonic()
    done: list[int] = []
    for incident_id in follow_ups.due(now=timezone.now(), limit=FOLLOW_UPS_PER_SWEEP):
        try:
            action = follow_ups.follow_up(incident_id=incident_id, now=timezone.now())
        except (SoftTimeLimitExceeded, OperationalError, InterfaceError):
            raise  # nothing that is the incident's
        except Exception:
            # It stays due, so that it is seen; it keeps no other incident from being told.
            log.exception(
                "incident %s could not be followed up", incident_id, extra={"incident": incident_id}
            )
            continue
        if action != "nothing":
            done.append(incident_id)
        if time.monotonic() - started > DRAIN_FOR_S:
            break
    Sweep.objects.update_or_create(name="follow_up", defaults={"finished_at": timezone.now()})
    if done:
        log.info("followed up incidents %s", done, extra={"incidents": done})


@shared_task
def deliver(notification_id: int) -> None:
    """Sends a message, then what else is due to its channel."""
    started = time.monotonic()
    claimed = notifications.claim_due(now=timezone.now(), limit=1, notification_id=notification_id)
    while claimed:
        with request_ids.done_for(claimed[0].request_ids):
            _deliver(claimed[0])
        if time.monotonic() - started > DRAIN_FOR_S:
            return
        claimed = notifications.claim_due(now=timezone.now(), limit=1, channel_id=claimed[0].channel_id)


def _deliver(claimed: notifications.Claimed) -> None:
    is_delivered = notifications.deliver(claimed=claimed, now=timezone.now())
    log.info(
        "%s %s by %s, attempt %s of notification %s",
        claimed.message.type,
        "delivered" if is_delivered else "not delivered",
        claimed.kind,
        claimed.attempt,
        claimed.notification_id,
        extra={
            "notification_id": claimed.notification_id,
            "incident_id": claimed.message.incident.get("id"),
            "channel_id": claimed.channel_id,
            "kind": claimed.kind,
            "attempt": claimed.attempt,
            "is_delivered": is_delivered,
        },
    )


@shared_task
def deliver_due() -> None:
    """Has every message sent that is due and in nobody's hands: retries, lost hints, dead workers."""
    for notification_id in notifications.due(now=timezone.now(), limit=DUE_PER_SWEEP):
        doorbell.send("alerts.tasks.deliver", notification_id)
    Sweep.objects.update_or_create(name="deliver", defaults={"finished_at": timezone.now()})


@shared_task
def give_sign_of_life() -> None:
    """Tells whoever watches this installation that it works, if it does."""
    watcher.give_sign(now=timezone.now())


@shared_task
def renew_living_alerts() -> None:
    """Has the alerts sent again that a channel would forget by itself, a task for each channel."""
    for channel_id in living_alerts.due_channels(now=timezone.now()):
        doorbell.send("alerts.tasks.renew_living_alerts_of", channel_id)


@shared_task
def renew_living_alerts_of(channel_id: int) -> None:
    """Sends a channel's alerts again."""
    done = living_alerts.renew(channel_id=channel_id, now=timezone.now())
    if done.error:
        log.warning(
            "alerts of channel %s were not sent again: %s",
            channel_id,
            done.error,
            extra={"channel_id": channel_id},
        )


@shared_task
def send_reports() -> None:
    """Mails the reports whose time has come, to whoever asked for them."""
    started = time.monotonic()
    report_mails.write_due(now=timezone.now())
    while time.monotonic() - started < DRAIN_FOR_S:
        claimed = report_mails.claim(now=timezone.now())
        if claimed is None:
            break
        try:
            is_sent = report_mails.send(claimed=claimed, now=timezone.now())
        except (SoftTimeLimitExceeded, OperationalError, InterfaceError):
            raise  # nothing that is the mail's
        except Exception:
            # Its lease runs out, and it is tried again for a day; it keeps no other from being sent.
            log.exception("report mail %s failed", claimed.mail.pk, extra={"report_mail_id": claimed.mail.pk})
            continue
        log.info(
            "report mail %s %s, attempt %s",
            claimed.mail.pk,
            "sent" if is_sent else "not sent",
            claimed.attempt,
            extra={"report_mail_id": claimed.mail.pk, "attempt": claimed.attempt, "is_sent": is_sent},
        )
    report_mails.forget(now=timezone.now())
