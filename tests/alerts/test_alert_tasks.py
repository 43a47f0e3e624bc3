"""What the workers are asked for: each task may run at any time, twice, and beside itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts import tasks
from alerts.models import Incident
from budgets.models import Sweep
from tests.alerts.scenes import burn
from tests.factories import make_feature

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    return datetime.now(tz=UTC)


def test_the_sweep_evaluates_every_feature_and_notes_when_it_was_done(now: datetime) -> None:
    features = [make_feature(now=now) for _ in range(2)]
    for feature in features:
        burn(feature, now - timedelta(minutes=1))
    tasks.evaluate()
    assert set(Incident.objects.values_list("feature_id", flat=True)) == {one.pk for one in features}
    assert Sweep.objects.get(name="evaluate").finished_at >= now


def test_what_a_roll_up_touched_is_evaluated_and_nothing_else(now: datetime) -> None:
    touched, other = make_feature(now=now), make_feature(now=now)
    for feature in (touched, other):
        burn(feature, now - timedelta(minutes=1))
    tasks.evaluate([touched.pk])
    assert Incident.objects.get().feature == touched
    assert not Sweep.objects.filter(name="evaluate").exists(), "it says nothing about the others"


def test_a_feature_that_is_gone_by_then_is_no_error() -> None:
    tasks.evaluate([10**6])
    assert Incident.objects.count() == 0
