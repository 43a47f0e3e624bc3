"""The steps of an incident: each is an event, a row that says the same, and the messages that go with it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts import incidents
from alerts.history import after, replay
from alerts.incidents import Finding, Target, facts_of
from alerts.models import AlertRule, Incident, IncidentEvent, Notification, RuleState
from budgets.models import AuditEntry, Feature
from tests.alerts.scenes import MINUTE, burn, calm, incidents_of, look, overrun, told
from tests.concurrency import at_once, held, is_waiting
from tests.factories import NOW, make_channel, make_feature, make_team

pytestmark = pytest.mark.django_db

KIM = "kim@example.com"


def finding(**overrides) -> Finding:
    return Finding(
        **{
            "severity": "ticket",
            "rule": "burn_rate 1d/2h",
            "reason": "burning",
            "summary": "Support chat, first token: burning 4× over 1 day.",
            "cause": None,
            "burn_rate": 4.0,
            **overrides,
        }
    )


def make_incident(feature: Feature | None = None, *, now=NOW, **overrides) -> Incident:
    feature = feature or make_feature()
    incident = incidents.open_incident(
        target=Target(feature, "production", milestone="first_token"),
        finding=finding(**overrides),
        evidence=["burn_rate 1d/2h"],
        now=now,
    )
    assert incident is not None
    return incident


def kinds(incident: Incident) -> list[str]:
    return [event.kind for event in incident.events.steps()]


# -- Opening ----------------------------------------------------------------------------------------


def test_a_target_has_one_incident_that_is_not_resolved() -> None:
    feature = make_feature()
    make_channel(feature.team)
    make_incident(feature)
    target = Target(feature, "production", milestone="first_token")
    again = incidents.open_incident(target=target, finding=finding(), evidence=[], now=NOW)
    assert again is None
    assert len(incidents_of(feature)) == 1
    assert IncidentEvent.objects.steps().count() == 1
    assert len(told(feature)) == 1


def test_another_environment_and_the_time_after_have_incidents_of_their_own() -> None:
    feature = make_feature()
    first = make_incident(feature)
    staging = Target(feature, "staging", milestone="first_token")
    assert incidents.open_incident(target=staging, finding=finding(), evidence=[], now=NOW)
    incidents.resolve(incident_id=first.pk, actor=KIM, now=NOW)
    assert make_incident(feature).pk != first.pk


def test_who_is_told_of_an_opening() -> None:
    feature = make_feature()
    every = make_channel(feature.team)
    make_channel(feature.team, min_severity="page")
    make_channel(feature.team, is_enabled=False)
    make_channel(make_team())
    make_incident(feature)
    assert told(feature) == [(every.name, "opened", "ticket")]


def test_a_page_goes_to_the_channels_of_tickets_too() -> None:
    feature = make_feature()
    every, pages = make_channel(feature.team), make_channel(feature.team, min_severity="page")
    make_incident(feature, severity="page")
    assert told(feature) == [(every.name, "opened", "page"), (pages.name, "opened", "page")]


def test_an_opening_that_is_rolled_back_leaves_no_message() -> None:
    feature = make_feature()
    make_channel(feature.team)
    with transaction.atomic():
        make_incident(feature)
        assert Notification.objects.count() == 1
        transaction.set_rollback(True)
    assert (Incident.objects.count(), Notification.objects.count()) == (0, 0)


# -- People -----------------------------------------------------------------------------------------


def test_acknowledging_says_who_has_it_and_tells_those_who_heard_of_the_opening() -> None:
    feature = make_feature()
    every = make_channel(feature.team)
    make_channel(feature.team, min_severity="page")
    incident = make_incident(feature)
    make_channel(feature.team)  # set up since: it never heard of this incident
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, note="On it", now=NOW + MINUTE)
    incident.refresh_from_db()
    assert (incident.state, incident.acknowledged_by, incident.acknowledged_at) == (
        "acknowledged",
        KIM,
        NOW + MINUTE,
    )
    event = incident.events.steps().last()
    assert event is not None
    assert (event.kind, event.actor, event.note, event.at) == ("acknowledged", KIM, "On it", NOW + MINUTE)
    assert told(feature) == [(every.name, "opened", "ticket"), (every.name, "acknowledged", "ticket")]
    message = Notification.objects.get(event="incident.acknowledged").data["incident"]
    assert message["summary"] == f"Acknowledged by {KIM}. {incident.summary}"


@pytest.mark.parametrize("verb", [incidents.acknowledge, incidents.resolve])
def test_repeating_a_persons_step_is_harmless_and_tells_nobody_again(verb) -> None:
    feature = make_feature()
    make_channel(feature.team)
    incident = make_incident(feature)
    first = verb(incident_id=incident.pk, actor=KIM, now=NOW)
    again = verb(incident_id=incident.pk, actor="lee@example.com", now=NOW + MINUTE)
    assert facts_of(again) == facts_of(first)
    assert len(kinds(incident)) == 2
    assert len(told(feature)) == 2


def test_a_resolved_incident_cannot_be_acknowledged_back_to_life() -> None:
    incident = make_incident()
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    assert incidents.acknowledge(incident_id=incident.pk, actor=KIM, now=NOW).state == "resolved"
    assert kinds(incident) == ["opened", "resolved"]


def test_resolving_by_hand_says_who_and_why() -> None:
    feature = make_feature()
    make_channel(feature.team)
    incident = make_incident(feature)
    incidents.resolve(incident_id=incident.pk, actor=KIM, note="Rolled back", now=NOW + MINUTE)
    incident.refresh_from_db()
    assert (incident.state, incident.resolved_by, incident.resolved_reason) == ("resolved", KIM, "by_hand")
    message = Notification.objects.get(event="incident.resolved").data["incident"]
    assert message["summary"] == f"Resolved by {KIM}. {incident.summary}"


def test_steps_of_people_are_in_the_audit_log_and_steps_of_rules_are_not() -> None:
    incident = make_incident()
    incidents.acknowledge(incident_id=incident.pk, actor=KIM, note="On it", now=NOW)
    incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW)
    incidents.resolve(incident_id=incident.pk, actor="eve@example.com", now=NOW)
    incidents.resolve_by_rules(incident=make_incident(), reason="recovered", now=NOW)

    resolved, acknowledged = AuditEntry.objects.filter(action__startswith="incident")

    assert (acknowledged.action, acknowledged.actor) == ("incident.acknowledged", KIM)
    assert acknowledged.team == incident.feature.team
    assert acknowledged.before == {"state": "open"}
    assert acknowledged.after == {"state": "acknowledged", "note": "On it"}
    assert (resolved.action, resolved.after) == ("incident.resolved", {"state": "resolved"})
    assert f"incident {incident.pk}: Support chat" in resolved.subject


def test_a_clock_that_lags_ends_no_incident_before_it_began() -> None:
    incident = make_incident()
    resolved = incidents.resolve(incident_id=incident.pk, actor=KIM, now=NOW - MINUTE)
    assert resolved.resolved_at == resolved.opened_at


def test_what_does_not_exist_cannot_be_acknowledged() -> None:
    with pytest.raises(Incident.DoesNotExist):
        incidents.acknowledge(incident_id=999_999, actor=KIM, now=NOW)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", [incidents.acknowledge, incidents.resolve])
def test_two_people_at_once_take_one_step(verb) -> None:
    feature = make_feature()
    make_channel(feature.team)
    incident = make_incident(feature)
    with held("SELECT 1 FROM alerts_incident WHERE id = %s FOR UPDATE", [incident.pk]) as start:
        for actor in (KIM, "lee@example.com"):
            start(partial(verb, incident_id=incident.pk, actor=actor, now=NOW))
        assert is_waiting("alerts_incident", count=2)
    assert len(kinds(incident)) == 2
    assert len(told(feature)) == 2


@pytest.mark.django_db(transaction=True)
def test_a_person_and_the_rules_resolve_it_once_between_them() -> None:
    feature = make_feature()
    make_channel(feature.team)
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature).update(keep_firing_seconds=0)
    overrun(feature, NOW)
    look(feature, NOW)
    calm(feature, NOW + 6 * MINUTE, "tools")
    (incident,) = incidents_of(feature)
    at_once(
        partial(incidents.resolve, incident_id=incident.pk, actor=KIM, now=NOW + 6 * MINUTE),
        partial(look, feature, NOW + 6 * MINUTE),
    )
    assert kinds(incident) == ["opened", "resolved"]
    assert [event for _, event, _ in told(feature)] == ["opened", "resolved"]


# -- The events alone -------------------------------------------------------------------------------


STEPS = st.lists(
    st.sampled_from(["raise", "join", "leave", "cause", "acknowledge", "resolve", "rules", "merge"]),
    max_size=8,
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_events_alone_rebuild_an_incident_after_any_steps(steps: list[str]) -> None:
    with transaction.atomic():
        feature = make_feature()
        incident = make_incident(feature)
        page = incidents.open_incident(
            target=Target(feature, "production", milestone="complete"),
            finding=finding(),
            evidence=[],
            now=NOW,
        )
        assert page is not None
        for number, step in enumerate(steps, start=1):
            incident.refresh_from_db()
            now = NOW + number * MINUTE
            is_over = incident.state == "resolved"
            person = {"incident_id": incident.pk, "actor": f"person {number}", "now": now}
            rules = {"incident": incident, "now": now}
            if step == "acknowledge":
                incidents.acknowledge(**person)
            elif step == "resolve":
                incidents.resolve(**person)
            elif is_over:
                continue  # rules only touch what is not resolved
            elif step == "raise" and incident.severity != "page":
                incidents.raise_severity(finding=finding(severity="page", burn_rate=number), **rules)
            elif step == "join":
                incidents.change_evidence(joined=[f"component_overrun {number}"], left=[], **rules)
            elif step == "leave":
                incidents.change_evidence(joined=[], left=["burn_rate 1d/2h"], **rules)
            elif step == "cause":
                cause = {"component": "tools", "allocated_ms": 800, "observed_ms": number}
                incidents.change_cause(cause=cause, summary=f"Because {number}.", **rules)
            elif step == "rules":
                incidents.resolve_by_rules(reason="recovered", **rules)
            elif step == "merge":
                incidents.merge(into=page, **rules)
        incident.refresh_from_db()
        assert replay(incident.events.steps()) == facts_of(incident)
        transaction.set_rollback(True)


@given(
    minutes=st.lists(
        st.sampled_from(["burn", "overrun", "calm", "silence", "acknowledge", "resolve", "switch"]),
        min_size=4,
        max_size=9,
    )
)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_happens_events_rebuild_every_incident_and_no_target_has_two(minutes: list[str]) -> None:
    """Whatever is decided in whatever order, minute by minute."""
    with transaction.atomic():
        feature = make_feature()
        make_channel(feature.team)
        look(feature, NOW)
        AlertRule.objects.filter(feature=feature).update(keep_firing_seconds=60)
        for number, what in enumerate(minutes):
            now = NOW + 3 * number * MINUTE
            _happen(what, feature, now)
            look(feature, now)
            _check(feature)
        transaction.set_rollback(True)


def _happen(what: str, feature: Feature, now) -> None:
    if what == "burn":
        burn(feature, now)
    elif what == "overrun":
        overrun(feature, now)
    elif what == "calm":
        calm(feature, now, "tools")
    elif what == "switch":
        rule = AlertRule.objects.get(feature=feature, kind="component_overrun")
        rule.is_enabled = not rule.is_enabled
        rule.save()
    elif what in ("acknowledge", "resolve"):
        verb = incidents.acknowledge if what == "acknowledge" else incidents.resolve
        for incident in Incident.objects.unresolved().filter(feature=feature):
            verb(incident_id=incident.pk, actor=KIM, now=now)


def _check(feature: Feature) -> None:
    found = incidents_of(feature)
    active = {
        f"{state.rule.kind} {state.key}"
        for state in RuleState.objects.filter(
            rule__feature=feature, status__in=["firing", "recovering"]
        ).select_related("rule")
    }
    for incident in found:
        facts = replay(incident.events.steps())
        assert facts == facts_of(incident)
        assert set(facts.evidence) <= active, "an incident rests on what holds"
        assert bool(facts.evidence) == (incident.state != "resolved")
        first, *rest = Notification.objects.filter(incident=incident).order_by("pk")
        assert first.event == "incident.opened"
        assert [one.event for one in rest].count("incident.resolved") <= 1
    targets = [(one.milestone, one.component_id) for one in found if one.state != "resolved"]
    assert len(targets) == len(set(targets))
    pages = [one for one in found if one.state != "resolved" and one.severity == "page"]
    if pages:
        assert all(one.component is None for one in found if one.state != "resolved")


def test_a_history_that_does_not_begin_with_an_opening_is_refused() -> None:
    event = IncidentEvent(kind="acknowledged", at=NOW)
    with pytest.raises(ValueError, match="begins with the event that opened it"):
        replay([event])
    with pytest.raises(ValueError, match="got no event"):
        replay([])
    opened = IncidentEvent(kind="opened", at=NOW, details={**finding().details, "evidence": []})
    with pytest.raises(ValueError, match="cannot follow"):
        after(after(None, opened), opened)


def test_an_hour_of_messages_is_bounded_by_what_changed() -> None:
    """One page and not seven: every tier, an overrun and a raise are one incident with two openings at most."""
    feature = make_feature()
    make_channel(feature.team)
    for minute in range(0, 60, 6):
        now = NOW + timedelta(minutes=minute)
        burn(feature, now)
        overrun(feature, now)
        look(feature, now)
    assert len(told(feature)) == 1
