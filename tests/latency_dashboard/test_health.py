"""/healthz and /readyz: alive, and able to work."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from pytest_django import Settings

from alerts.tasks import deliver_due, evaluate, follow_up
from budgets.models import Batch, Sweep
from budgets.tasks import roll_up
from tests.factories import NOW, make_feature, make_traffic


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def ready() -> tuple[int, dict[str, Any]]:
    response = Client().get("/readyz")
    return response.status_code, response.json()


def swept(seconds_ago: float, *names: str) -> None:
    at = NOW - timedelta(seconds=seconds_ago)
    for name in names or ("roll_up", "evaluate", "follow_up", "deliver"):
        Sweep.objects.update_or_create(name=name, defaults={"finished_at": at})


def test_healthz_answers_without_database_or_broker(settings: Settings, tmp_path: Path) -> None:
    settings.CACHES = {
        "default": django_settings.CACHES["default"] | {"LOCATION": f"unix://{tmp_path}/no.sock?db=0"}
    }
    response = Client().get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_readyz_is_ready_where_the_database_the_broker_and_a_recent_sweep_are_there(db: None) -> None:
    swept(1.5)
    status, document = ready()
    assert (status, document["status"]) == (200, "ok")
    assert document["checks"] == {"database": "ok", "broker": "ok", "sweep": "ok"}
    assert document["last_sweep_age_s"] == 1.5
    assert document["version"] == django_settings.VERSION


def test_readyz_is_503_before_any_sweep(db: None) -> None:
    status, document = ready()
    assert (status, document["last_sweep_age_s"]) == (503, None)
    assert "no roll_up sweep has run yet" in document["checks"]["sweep"]


@pytest.mark.parametrize(("seconds", "status"), [(60, 200), (61, 503), (3600, 503)])
def test_readyz_is_503_once_the_last_sweep_is_over_a_minute_ago(
    db: None, seconds: float, status: int
) -> None:
    swept(seconds)
    found, document = ready()
    assert found == status
    assert document["checks"]["sweep"].startswith("ok" if status == 200 else "stale")
    assert document["last_sweep_age_s"] == seconds


def test_readyz_is_ready_once_every_sweep_has_run(db: None) -> None:
    roll_up()
    assert ready()[0] == 503
    evaluate()
    follow_up()
    deliver_due()
    assert ready()[0] == 200


def test_readyz_names_a_broker_that_is_away(db: None, settings: Settings, tmp_path: Path) -> None:
    swept(1)
    settings.CACHES = {
        "default": django_settings.CACHES["default"] | {"LOCATION": f"unix://{tmp_path}/no.sock?db=0"}
    }
    status, document = ready()
    assert status == 503
    assert document["checks"]["broker"].startswith("away")
    assert document["checks"]["database"] == "ok"


@pytest.mark.django_db(transaction=True)
def test_readyz_names_a_database_that_is_away(tmp_path: Path) -> None:
    connection.close()
    host = connection.settings_dict["HOST"]
    connection.settings_dict["HOST"] = str(tmp_path)
    try:
        status, document = ready()
    finally:
        connection.settings_dict["HOST"] = host
    assert status == 503
    assert document["checks"]["database"].startswith("away")
    assert document["checks"]["sweep"].startswith("unknown")
    assert document["checks"]["broker"] == "ok"


def test_readyz_counts_batches_that_were_set_aside_and_is_ready_nevertheless(db: None) -> None:
    swept(1)
    feature = make_feature()
    for _ in range(2):
        make_traffic(feature, at=NOW, count=1, over=0, component="model")
    assert ready()[1]["failed_batches"] == 0
    Batch.objects.update(
        state=Batch.State.FAILED, rolled_up_at=None, failed_at=NOW, failure="integer out of range"
    )
    status, document = ready()
    assert (status, document["failed_batches"]) == (200, 2)


@pytest.mark.parametrize("name", ["roll_up", "evaluate", "follow_up", "deliver"])
def test_readyz_names_the_sweep_that_is_stale(name: str, db: None) -> None:
    swept(2.0)
    swept(61.0, name)
    status, document = ready()
    assert status == 503
    assert document["checks"]["sweep"] == f"stale: the last {name} sweep finished 61 s ago"
    assert document["last_sweep_age_s"] == 61.0
