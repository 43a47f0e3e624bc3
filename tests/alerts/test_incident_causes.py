"""The cause of an incident, from the requests that were posted to what people are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from alerts import settlement
from alerts.models import IncidentEvent, Notification
from tests.alerts.scenes import incidents_of, look
from tests.alerts.test_causes import a_minute
from tests.factories import NOW, make_channel, make_feature

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def test_an_incident_names_the_component_that_makes_its_requests_slow():
    feature = make_feature()
    make_channel(feature.team)
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert (incident.milestone, incident.severity) == ("first_token", "page")
    assert incident.cause == {"component": "retrieval", "allocated_ms": 400, "observed_ms": 2700}
    assert incident.summary.endswith("Retrieval +2.50 s.")


def test_without_trace_ids_it_names_the_component_most_over_its_allocation():
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval", traced=False)
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert incident.cause == {"component": "retrieval", "allocated_ms": 400, "observed_ms": 2700}
    assert incident.summary.endswith("retrieval: p99 2.70 s of 400 ms allocated.")


def test_when_another_component_becomes_the_cause_the_incident_says_so_within_a_minute_and_tells_nobody():
    feature = make_feature()
    make_channel(feature.team)
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    [incident] = incidents_of(feature)
    told = Notification.objects.count()
    a_minute(feature, NOW + MINUTE, slow=100, of=200, by="tools", first=100)
    look(feature, NOW + MINUTE)
    [incident] = incidents_of(feature)
    assert incident.cause is not None
    assert incident.cause["component"] == "tools"
    assert "Tools +2" in incident.summary
    assert IncidentEvent.Kind.CAUSE_CHANGED in {event.kind for event in incident.events.all()}
    assert Notification.objects.count() == told


def test_the_cause_of_an_open_incident_is_sought_once_a_minute():
    feature = make_feature()
    a_minute(feature, slow=20, of=60)
    look(feature, NOW)
    [incident] = incidents_of(feature)
    asked = [
        settlement._is_cause_due(incident, NOW + second * MINUTE / 60) for second in (1, 59, 60, 61, 119, 120)
    ]
    assert asked == [False, False, True, False, False, True]


def test_where_everything_begins_at_once_the_first_messages_do_not_wait_for_requests_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(settlement, "REQUESTS_READ_AT_ONCE", 0)
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert incident.summary.endswith("retrieval: p99 2.70 s of 400 ms allocated.")
