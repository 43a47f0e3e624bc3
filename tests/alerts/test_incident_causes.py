"""The cause of an incident, from the requests that were posted to what people are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from alerts import causes_due, evaluation
from alerts.causes_due import CausesDue
from alerts.models import FollowUp, Incident, IncidentEvent, Notification
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
        CausesDue([feature.pk], now=at).take(incident, now=at)
        for at in (NOW + second * MINUTE / 60 for second in (1, 59, 60, 61, 119, 120))
    ]
    assert asked == [False, False, True, False, False, True]


def test_of_many_open_incidents_those_are_looked_into_first_that_were_longest_ago(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(causes_due, "READ_AT_ONCE", 1)
    features = [make_feature(slug=f"chat-{number}") for number in range(3)]
    found = []
    for number, feature in enumerate(features):
        a_minute(feature, slow=20, of=60, first=100 * number)
        look(feature, NOW)
        found += incidents_of(feature)
    for turn in range(4):
        at = NOW + (1 + turn / 10) * MINUTE
        due = CausesDue(None, now=at)
        taken = [incident.pk for incident in found if due.take(incident, now=at)]
        assert taken == [found[turn].pk] if turn < 3 else taken == []


def test_where_everything_begins_at_once_requests_are_read_for_some_and_the_others_follow(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(causes_due, "READ_AT_ONCE", 1)
    monkeypatch.setattr(evaluation, "FEATURES_PER_TRANSACTION", 1)
    features = [make_feature(slug=f"chat-{number}") for number in range(3)]
    for number, feature in enumerate(features):
        make_channel(feature.team)
        a_minute(feature, slow=20, of=60, by="retrieval", first=100 * number)

    def known_by() -> list[str]:
        return [incidents_of(feature)[0].attribution["why"] for feature in features]

    evaluation.evaluate(feature_ids=None, now=NOW)
    assert known_by() == ["", "many_incidents", "many_incidents"]
    assert incidents_of(features[1])[0].summary.endswith("retrieval: p99 2.70 s of 400 ms allocated.")
    told = Notification.objects.count()
    for minute in (1, 2):
        evaluation.evaluate(feature_ids=None, now=NOW + minute * MINUTE)
    assert known_by() == ["", "", ""], "one in each evaluation, and first those that nobody looked into"
    assert "Retrieval +2.50 s" in incidents_of(features[1])[0].summary
    assert Notification.objects.count() == told
    assert not FollowUp.objects.exclude(news_at=None).exists(), "it is the same component"


def test_what_is_known_from_the_requests_is_not_given_up_where_they_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
):
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    monkeypatch.setattr(causes_due, "READ_AT_ONCE", 0)
    a_minute(feature, NOW + MINUTE, slow=100, of=200, by="tools", first=100)
    look(feature, NOW + MINUTE)
    [incident] = incidents_of(feature)
    assert incident.attribution is not None
    assert (incident.attribution["by"], incident.cause["component"]) == ("requests", "retrieval")


def test_two_components_that_are_about_as_slow_do_not_take_turns_at_being_the_cause():
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval")
    look(feature, NOW)
    at = NOW
    for minute, by in enumerate(["tools", "retrieval", "tools", "retrieval", "tools"], start=1):
        at = NOW + minute * MINUTE
        a_minute(feature, at, slow=24, of=60, by=by, first=100 * minute)
        look(feature, at)
    [incident] = incidents_of(feature)
    assert incident.cause["component"] == "retrieval"
    worst = [one["component"] for one in incident.attribution["components"]]
    assert worst[0] == "retrieval"
    assert not incident.events.filter(kind=IncidentEvent.Kind.CAUSE_CHANGED).exists()
    a_minute(feature, at + MINUTE, slow=400, of=400, by="tools", first=1000)
    look(feature, at + MINUTE)
    [incident] = incidents_of(feature)
    assert incident.cause["component"] == "tools"


def test_one_whose_requests_tell_nothing_does_not_take_the_turns_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(causes_due, "READ_AT_ONCE", 0)
    feature = make_feature()
    a_minute(feature, slow=20, of=60, by="retrieval", traced=False)
    look(feature, NOW)
    monkeypatch.setattr(causes_due, "READ_AT_ONCE", 1)
    look(feature, NOW + MINUTE)
    [incident] = incidents_of(feature)
    assert incident.attribution is not None
    assert incident.attribution["why"] == "few_traces"
    assert FollowUp.objects.get(incident=incident).news_at is None
