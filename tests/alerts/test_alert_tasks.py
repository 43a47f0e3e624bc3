"""What the workers are asked for: each task may run at any time, twice, and beside itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts import locks, tasks
from alerts.models import AlertRule, FollowUp, Incident
from alerts.watcher import faults
from budgets.models import Sweep
from tests.alerts.scenes import burn
from tests.factories import make_channel, make_feature, make_team

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


def test_a_feature_that_cannot_be_decided_keeps_no_other_from_being_told(
    now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    broken, well = make_feature(now=now), make_feature(now=now)
    for feature in (broken, well):
        burn(feature, now - timedelta(minutes=1))
    rule = AlertRule.objects.create(
        feature=broken, name="of a later version", kind="timeouts", parameters={"not_known_yet": 1}
    )
    for _ in range(2):
        tasks.evaluate()
    assert Incident.objects.get().feature == well
    assert f"feature {broken.pk} could not be evaluated" in caplog.text
    assert Sweep.objects.filter(name="evaluate").exists(), "the sweep goes on"
    assert any("rules of every feature" in one for one in faults(now=now)), "and no sign of life is given"
    rule.delete()
    tasks.evaluate()
    assert set(Incident.objects.values_list("feature_id", flat=True)) == {broken.pk, well.pk}
    assert faults(now=datetime.now(tz=UTC)) == []


def test_an_incident_that_cannot_be_followed_up_keeps_no_other_from_being_told(
    now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    team = make_team()
    make_channel(team, name="mail", kind="email", config={"to": ["kim@example.com"]})
    for feature in (make_feature(team=team, now=now) for _ in range(2)):
        burn(feature, now - timedelta(minutes=1))
    tasks.evaluate()
    broken, well = Incident.objects.order_by("pk")
    FollowUp.objects.filter(incident=broken).update(policy={"name": "half"}, next_at=now - timedelta(hours=1))
    FollowUp.objects.filter(incident=well).update(next_at=now, told_at=now - timedelta(hours=5))
    tasks.follow_up()
    assert well.notifications.filter(event="incident.repeated").exists()
    assert f"incident {broken.pk} could not be followed up" in caplog.text
    assert FollowUp.objects.get(incident=broken).next_at is not None, "it stays due, so that it is seen"
    assert Sweep.objects.filter(name="follow_up").exists()


def test_a_lock_is_free_as_soon_as_its_block_is_over() -> None:
    for _ in range(100):
        with locks.try_hold(locks.FOLLOW_UP_SWEEP) as is_ours:
            assert is_ours


def test_incidents_are_followed_up_by_one_sweep_at_a_time(now: datetime) -> None:
    with locks.try_hold(locks.FOLLOW_UP_SWEEP) as is_ours:
        assert is_ours
        tasks.follow_up()
    assert not Sweep.objects.filter(name="follow_up").exists()
    tasks.follow_up()
    assert Sweep.objects.filter(name="follow_up").exists()
