"""What is deleted by the row once it is beyond its retention; the rest goes by the partition."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

log = logging.getLogger(__name__)


def drop_expired_rows(*, now: datetime) -> dict[str, int]:
    """Deletes hours, annotations and batches beyond their retention; partitions are dropped by budgets.partitions."""
    deleted = {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM budgets_rollup_hour WHERE start < %s",
            [now - timedelta(days=settings.HOUR_RETENTION_DAYS)],
        )
        deleted["budgets_rollup_hour"] = cursor.rowcount
        # As long as hours: on a chart of days an instant says little.
        cursor.execute(
            "DELETE FROM budgets_annotation WHERE at < %s",
            [now - timedelta(days=settings.HOUR_RETENTION_DAYS)],
        )
        deleted["budgets_annotation"] = cursor.rowcount
        # A batch goes one day after the last of its measurements can have gone.
        before = now - timedelta(days=settings.RAW_RETENTION_DAYS + 2)
        cursor.execute(
            "SELECT count(*) FROM budgets_batch WHERE state = 'failed' AND received_at < %s", [before]
        )
        [lost] = cursor.fetchone()
        if lost:
            log.error(
                "%s batches that could not be rolled up are beyond their retention and go uncounted.", lost
            )
        cursor.execute(
            "DELETE FROM budgets_batch WHERE state NOT IN ('pending', 'discarding') AND received_at < %s",
            [before],
        )
        deleted["budgets_batch"] = cursor.rowcount
    return deleted
