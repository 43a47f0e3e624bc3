"""The cause of an incident, from the requests that were posted to what people are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from alerts import settlement
from alerts.models import Incident, IncidentEvent, Notification
from alerts.summaries import story
from tests.alerts.scenes import incidents_of, look
from tests.alerts.test_causes import a_minute
from tests.factories import NOW, make_channel, make_feature, make_traffic

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def story_told(incident: Incident) -> str:
    return story(incident, Notification.Event.OPENED, note="", now=NOW).cause


def test_an_incident_names_the_component_that_makes_its_requests_slow():
    feature = make_feature()
    make_channel(feature.team)
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert (incident.milestone, incident.severity) == ("first_token", "page")
    assert incident.cause == {"component": "retrieval", "allocated_ms": 400, "observed_ms": 2700}
    assert incident.summary.endswith("Retrieval +2.50 s.")
    assert incident.attribution is not None
    assert (incident.attribution["by"], incident.attribution["over"]) == ("requests", 20)
    assert incident.attribution["components"][0]["excess_ms"] == 2500
    assert "by the requests themselves" in story_told(incident)


def test_without_trace_ids_it_names_the_component_most_over_its_allocation():
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval", traced=False)
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert incident.cause == {"component": "retrieval", "allocated_ms": 400, "observed_ms": 2700}
    assert incident.summary.endswith("retrieval: p99 2.70 s of 400 ms allocated.")
    assert incident.attribution is not None
    assert (incident.attribution["by"], incident.attribution["why"]) == ("allocations", "few_traces")
    assert "by allocations, as too few requests carry trace ids" in story_told(incident)


def test_a_release_before_it_stands_beside_the_cause():
    feature = make_feature()
    a_minute(feature, NOW - 90 * MINUTE, slow=0, of=30)
    a_minute(feature, NOW - 150 * MINUTE, slow=0, of=30, first=50)
    make_traffic(
        feature, at=NOW - 20 * MINUTE, count=5, over=0, milestone="first_token", release="v412", now=NOW
    )
    a_minute(feature, slow=20, of=60, by="retrieval", first=100)
    look(feature, NOW)
    [incident] = incidents_of(feature)
    assert [change["name"] for change in incident.changes] == ["v412"]
    assert incident.summary.endswith("Retrieval +2.50 s since v412 (19:40 UTC).")


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
    assert incident.attribution is not None
    assert incident.attribution["components"][0]["component"] == "tools"
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
