"""Where PostgreSQL cannot do its work just now, every write is answered by 503 and a hint when to come back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import DataError, IntegrityError, connection
from django.db import Error as DatabaseError
from django.test import Client
from django.utils import timezone

from budgets.models import Batch, Feature, Measurement
from latency_dashboard.outages import is_outage
from tests.api import Api, error_code
from tests.factories import feature_document, item, make_feature
from tests.people import PASSWORD, make_person

in_transactions = pytest.mark.django_db(transaction=True)


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """As a server that was made a standby, or that an operator keeps from growing."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")


@in_transactions
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "measurements"),
        ("PUT", "features/another"),
        ("PUT", "channels/ops"),
    ],
)
def test_a_write_to_a_read_only_server_is_refused_for_now(api: Api, method: str, path: str) -> None:
    feature = make_feature(team=api.team)
    bodies: dict[str, Any] = {
        "measurements": {"measurements": [item(feature, started_at=timezone.now().isoformat())]},
        "features/another": feature_document(),
        "channels/ops": {
            "kind": "webhook",
            "url": "https://hooks.example.com/x",
            "secret": "whsec_" + "c2Vj" * 8,
        },
    }

    def write() -> Any:
        return api.post(bodies[path]) if method == "POST" else api.put(path, bodies[path])

    with read_only():
        for _ in range(2):
            response = write()
            assert (response.status_code, error_code(response)) == (503, "database_unavailable")
            assert int(response["Retry-After"]) > 0
    assert not Batch.objects.exists()
    assert not Measurement.objects.exists()
    assert Feature.objects.count() == 1

    assert write().status_code in (200, 201)


@in_transactions
def test_a_batch_under_an_idempotency_key_is_refused_for_now_and_stored_later(api: Api) -> None:
    body = {"measurements": [item(make_feature(team=api.team), started_at=timezone.now().isoformat())]}
    with read_only():
        assert api.post(body, idempotency_key="a").status_code == 503

    response = api.post(body, idempotency_key="a")
    assert (response.status_code, response.json()["accepted"]) == (200, 1)
    assert "Idempotent-Replay" not in response


@pytest.mark.usefixtures("plain_static_files")
@in_transactions
def test_a_page_that_writes_to_a_read_only_server_says_so() -> None:
    make_person("ada@example.com")
    client = Client(raise_request_exception=False)
    with read_only():
        response = client.post("/login/", {"username": "ada@example.com", "password": PASSWORD})

    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    assert "Not available just now" in response.content.decode()


@pytest.mark.parametrize(
    ("sqlstate", "is_one"),
    [
        ("08001", True),  # sqlclient_unable_to_establish_sqlconnection
        ("08006", True),  # connection_failure
        ("25006", True),  # read_only_sql_transaction
        ("40P01", True),  # deadlock_detected
        ("53100", True),  # disk_full
        ("53200", True),  # out_of_memory
        ("53300", True),  # too_many_connections
        ("55P03", True),  # lock_not_available
        ("57014", True),  # query_canceled
        ("57P01", True),  # admin_shutdown
        ("57P02", True),  # crash_shutdown
        ("57P03", True),  # cannot_connect_now
        ("58030", True),  # io_error
        ("XX000", True),  # internal_error
        ("22003", False),  # numeric_value_out_of_range
        ("23505", False),  # unique_violation
        ("25P02", False),  # in_failed_sql_transaction
        ("42P01", False),  # undefined_table
        ("XX001", False),  # data_corrupted
    ],
)
def test_what_may_pass_by_itself_is_an_outage_and_nothing_else(sqlstate: str, is_one: bool) -> None:
    error = psycopg.errors.lookup(sqlstate)()
    assert is_outage(error) is is_one
    with pytest.raises(DatabaseError) as raised, connection.wrap_database_errors:
        raise error
    assert is_outage(raised.value) is is_one


@pytest.mark.parametrize("error", [ValueError(), DataError(), IntegrityError(), None])
def test_an_error_of_our_own_is_no_outage(error: Exception | None) -> None:
    assert not is_outage(error)
