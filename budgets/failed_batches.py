"""Batches that cannot be rolled up because of what is in them: set aside, so that they hold up no others.

The measurements of a batch that is set aside are in no rollup, and a rebuild leaves them out too; put back, it is
pending and counts once like any other. It goes with its raw measurements after their retention.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime

import psycopg
from django.db import Error as DatabaseError
from django.db import transaction

from . import audit
from .models import Batch
from .partitions import existing_days

log = logging.getLogger(__name__)

# What computing with values that do not fit together raises.
_OF_VALUES = (ValueError, ArithmeticError, LookupError)
# Data exceptions, violated constraints, and limits of the program such as the size of an array.
_SQLSTATES_OF_DATA = ("22", "23", "54")
# A failure may quote a whole row.
_LONGEST_FAILURE = 1000


def comes_of_data(error: Exception) -> bool:
    """Whether the same batches would fail again for it, whenever they are tried and by whom.

    A connection that is lost, a lock that is not got, a full disk or a time limit says nothing about a batch.
    """
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if not isinstance(cause, psycopg.Error):
        return isinstance(cause, _OF_VALUES)
    if cause.sqlstate is None:  # it never got to the server
        return isinstance(cause, psycopg.DataError)
    # "No partition for this row" is a violation without a constraint: the next try makes the partition.
    is_partition_missing = cause.sqlstate == "23514" and not cause.diag.constraint_name
    return cause.sqlstate.startswith(_SQLSTATES_OF_DATA) and not is_partition_missing


def set_aside(batch_id: int, error: Exception, *, now: datetime) -> bool:
    """Takes a batch out of the roll-up until somebody puts it back; False where another worker has dealt with it."""
    failure = f"{type(error).__name__}: {error}"[:_LONGEST_FAILURE].replace("\0", "")
    is_ours = Batch.objects.filter(pk=batch_id, state=Batch.State.PENDING).update(
        state=Batch.State.FAILED, failed_at=now, failure=failure
    )
    if is_ours:
        log.error("Batch %s cannot be rolled up and is set aside: %s", batch_id, failure, exc_info=error)
    return bool(is_ours)


def put_back(batch_ids: Collection[int], *, actor: str, now: datetime) -> int:
    """Makes batches that were set aside pending again; how many they were.

    Not those of which raw measurements are gone: they would be told as rolled up, and count nowhere.
    """
    with transaction.atomic():
        failed = Batch.objects.filter(pk__in=batch_ids, state=Batch.State.FAILED)
        locked = failed.select_for_update(of=("self",)).select_related("team").order_by("pk")
        kept = existing_days("budgets_measurement")
        batches = [batch for batch in locked if batch.ended_from.date() in kept]
        for batch in batches:
            audit.record(
                team=batch.team,
                actor=actor,
                action="batch.put_back",
                subject=f"batch {batch.pk}",
                before={"state": batch.state, "failure": batch.failure},
                after={"state": Batch.State.PENDING, "failure": None},
                now=now,
            )
        Batch.objects.filter(pk__in=[batch.pk for batch in batches]).update(
            state=Batch.State.PENDING, failed_at=None, failure=None
        )
    return len(batches)
