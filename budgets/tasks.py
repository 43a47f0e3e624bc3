"""What the workers do for budgets: each task is one verb, safe to run twice and at the same time."""

from __future__ import annotations

import logging
import time

from celery import shared_task
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from . import (
    account_mails,
    doorbell,
    login_attempts,
    partitions,
    passwords,
    rebuild,
    request_ids,
    retention,
    rollups,
)
from . import discard as discarding
from .burn_rates import BURN_RATE_WINDOWS
from .models import Sweep

log = logging.getLogger(__name__)

# Hints come with every POST; a busy service would have a roll-up a batch. So close together they wait.
MIN_INTERVAL_S = 0.1
LONGEST_WINDOW = max(BURN_RATE_WINDOWS.values())
# A line of the log names no more than so many.
LOGGED_FEATURES = 50
_rolled_up_at = 0.0


@shared_task
def roll_up() -> None:
    """Rolls up what is pending and has what it touched evaluated."""
    global _rolled_up_at
    time.sleep(max(0.0, _rolled_up_at + MIN_INTERVAL_S - time.monotonic()))
    doorbell.heard()
    while True:
        now = timezone.now()
        done = rollups.roll_up(now=now)
        with request_ids.done_for(done.request_ids):
            _log(done)
            # What ended before the longest window of any rule changes no decision: a fed history evaluates nothing.
            if done.feature_ids and done.ended_to is not None and done.ended_to > now - LONGEST_WINDOW:
                # By name: alerts know budgets, never the other way round.
                doorbell.send("alerts.tasks.evaluate", sorted(done.feature_ids))
        if not done.is_more:
            break
    _rolled_up_at = time.monotonic()
    _note("roll_up")


def _log(done: rollups.RolledUp) -> None:
    if not done.batches:
        return
    log.info(
        "rolled up %s batches, %s measurements of %s features",
        done.batches,
        done.measurements,
        len(done.feature_ids),
        extra={
            "batches": done.batches,
            "measurements": done.measurements,
            "feature_ids": sorted(done.feature_ids)[:LOGGED_FEATURES],
        },
    )


@shared_task
def compact() -> None:
    """Derives the hours and days that are over."""
    rollups.compact(now=timezone.now())
    partitions.summarise()
    _note("compact")


@shared_task
def rejudge() -> None:
    """Judges anew what is stored of features that got their first latency budget."""
    judged = rebuild.rejudge(now=timezone.now())
    if judged:
        doorbell.send("alerts.tasks.evaluate", judged)


@shared_task
def discard() -> None:
    """Takes what discarded batches held out of the rollups, and deletes it."""
    touched = discarding.finish_discards(now=timezone.now())
    if touched:
        doorbell.send("alerts.tasks.evaluate", sorted(touched))


@shared_task
def maintain() -> None:
    """Makes partitions ahead and drops what is beyond its retention."""
    now = timezone.now()
    partitions.ensure_ahead(now)
    partitions.drop_expired(now)
    retention.drop_expired_rows(now=now)
    SessionStore.clear_expired()
    account_mails.forget(now=now)
    login_attempts.forget(now=now)
    _note("maintain")


@shared_task
def send_account_mails() -> None:
    """Mails the links for new passwords that were asked for."""
    passwords.send_due_resets(now=timezone.now())


def _note(name: str) -> None:
    Sweep.objects.update_or_create(name=name, defaults={"finished_at": timezone.now()})
