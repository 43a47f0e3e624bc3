"""Columns on their way into PostgreSQL: with what they belong to, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from budgets.columns import POSTGRES_EPOCH_US, Rows, insert_with_rows
from budgets.models import Batch, Measurement
from budgets.partitions import ensure_ahead
from tests.factories import make_team

INSERT = """
INSERT INTO budgets_batch (team_id, state, received_at, measurement_count, ended_from, ended_to)
VALUES (%s, 'pending', %s, %s, %s, %s) RETURNING id
"""


def rows(**changes: Any) -> Rows:
    """Three measurements that ended just now."""
    now_us = round(timezone.now().timestamp() * 1e6) - POSTGRES_EPOCH_US
    return Rows(
        "budgets_measurement",
        "batch_id",
        {
            "ended_at": np.full(3, now_us, dtype=">i8"),
            "duration_ms": np.array([1.0, 2.0, 3.0], dtype=">f8"),
            "series_id": np.ones(3, dtype=">i4"),
            "status": np.zeros(3, dtype=">i2"),
            **changes,
        },
    )


def insert(several: list[Rows]) -> int:
    now = timezone.now()
    ensure_ahead(now)
    return insert_with_rows(INSERT, [make_team().pk, now, 3, now, now], several)


@pytest.mark.django_db(transaction=True)
def test_rows_carry_the_id_of_what_they_belong_to() -> None:
    batch_id = insert([rows()])

    assert Batch.objects.get().pk == batch_id
    assert list(Measurement.objects.values_list("batch_id", flat=True)) == [batch_id] * 3


@pytest.mark.django_db(transaction=True)
def test_without_its_rows_nothing_is_stored_and_the_connection_stays_usable() -> None:
    with pytest.raises(IntegrityError):
        insert([rows(), rows(duration_ms=np.full(3, -1.0, dtype=">f8"))])

    assert not Batch.objects.exists()
    assert not Measurement.objects.exists()


class UnmakeableRows(Rows):
    def encoded(self, owner_id: int) -> bytes:
        raise MemoryError


@pytest.mark.django_db(transaction=True)
def test_nothing_is_stored_of_rows_that_cannot_be_made() -> None:
    good = rows()
    with pytest.raises(MemoryError):
        insert([good, UnmakeableRows(good.table, good.id_column, good.columns)])

    assert not Batch.objects.exists()
    assert not Measurement.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_within_a_transaction_its_end_decides() -> None:
    team, now = make_team(), timezone.now()
    ensure_ahead(now)
    for is_kept in (False, True):
        with transaction.atomic():
            insert_with_rows(INSERT, [team.pk, now, 3, now, now], [rows()])
            transaction.set_rollback(not is_kept)

        assert Batch.objects.count() == is_kept
        assert Measurement.objects.count() == 3 * is_kept
    assert connection.get_autocommit()
