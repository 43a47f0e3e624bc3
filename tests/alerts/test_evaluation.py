"""From counters to incidents: what opens, joins, merges and resolves, once, whoever evaluates."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from alerts import evaluation, incidents, locks
from alerts.evaluation import evaluate, sweep
from alerts.history import replay
from alerts.incidents import facts_of
from alerts.models import AlertRule, Incident, IncidentEvent, Notification, RuleState
from budgets.features import declare_feature
from budgets.models import Feature
from tests.alerts.scenes import MINUTE, burn, calm, incidents_of, look, overrun, smoulder, told
from tests.concurrency import at_once, held, is_waiting, other_connection
from tests.factories import (
    NOW,
    feature_document,
    make_channel,
    make_feature,
    make_team,
    make_traffic,
    measure,
    measurement,
)

pytestmark = pytest.mark.django_db

TWO_MILESTONES = [
    feature_document()["latency_budgets"][0],
    {
        "milestone": "complete",
        "budget_ms": 8000,
        "objective": 0.95,
        "window_days": 28,
        "allocations": {"rendering": 2000},
    },
]


# The usual document: the first block of the whole is broken down, what comes after it is not.
ALL_UNDER_THE_FIRST = [
    feature_document()["latency_budgets"][0],
    {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
]


def make_two_milestones(**overrides) -> Feature:
    return make_feature(
        components=["model", "retrieval", "tools", "overhead", "rendering"],
        latency_budgets=TWO_MILESTONES,
        **overrides,
    )


def only_incident(feature: Feature) -> Incident:
    (incident,) = incidents_of(feature)
    return incident


def resolved_reason(feature: Feature) -> str:
    incident = only_incident(feature)
    assert incident.state == Incident.State.RESOLVED
    return incident.resolved_reason


# -- Default rules ----------------------------------------------------------------------------------


def rules_of(feature: Feature) -> set[tuple[str, str | None, str]]:
    return set(AlertRule.objects.filter(feature=feature).values_list("kind", "milestone", "environment"))


def test_every_latency_budget_is_watched_without_being_asked() -> None:
    feature = make_two_milestones()
    look(feature, NOW)
    look(feature, NOW)
    assert rules_of(feature) == {
        ("burn_rate", "first_token", "production"),
        ("burn_rate", "complete", "production"),
        ("component_overrun", None, "production"),
    }
    assert AlertRule.objects.filter(feature=feature).count() == 3


def test_a_feature_without_a_latency_budget_has_no_rules() -> None:
    feature = make_feature(latency_budgets=[])
    look(feature, NOW)
    assert rules_of(feature) == set()


def test_a_rule_that_somebody_switched_off_is_not_made_again() -> None:
    feature = make_feature()
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature).update(is_enabled=False)
    burn(feature, NOW)
    look(feature, NOW)
    assert AlertRule.objects.filter(feature=feature).count() == 2
    assert incidents_of(feature) == []


def test_other_environments_are_watched_only_by_rules_of_their_own() -> None:
    feature = make_feature()
    make_traffic(feature, at=NOW, count=60, over=40, milestone="first_token", environment="staging")
    look(feature, NOW)
    assert incidents_of(feature) == []
    AlertRule.objects.create(
        feature=feature, name="staging", environment="staging", kind="burn_rate", milestone="first_token"
    )
    look(feature, NOW)
    assert only_incident(feature).environment == "staging"


# -- Opening ----------------------------------------------------------------------------------------


def test_a_burning_milestone_opens_one_incident_that_holds_every_tier_as_evidence() -> None:
    feature = make_feature()
    channel = make_channel(feature.team)
    burn(feature, NOW)
    assert look(feature, NOW).opened == (only_incident(feature).pk,)
    incident = only_incident(feature)
    assert (incident.milestone, incident.component, incident.severity) == ("first_token", None, "page")
    assert incident.rule == "burn_rate 1h/5m"
    assert incident.burn_rate == pytest.approx(66.7, abs=0.1)
    (opened,) = incident.events.steps()
    assert opened.reason == "burning"
    assert opened.details["evidence"] == [
        "burn_rate 1d/2h",
        "burn_rate 1h/5m",
        "burn_rate 3d/6h",
        "burn_rate 6h/30m",
    ]
    assert told(feature) == [(channel.name, "opened", "page")]


def test_the_numbers_that_opened_an_incident_are_kept_with_it() -> None:
    feature = make_feature()
    burn(feature, NOW)
    look(feature, NOW)
    (opened,) = only_incident(feature).events.steps()
    decided_by = opened.details["decided_by"]
    assert (decided_by["condition"], decided_by["reason"]) == ("burn_rate 1h/5m", "burning")
    assert decided_by["evidence"]["long"] == {
        "window": "1h",
        "judged": 60,
        "bad": 40,
        "burn_rate": pytest.approx(66.7, abs=0.1),
    }
    assert decided_by["evidence"]["factor"] == pytest.approx(13.44)


def test_the_numbers_that_raised_a_ticket_are_kept_with_it() -> None:
    feature = make_feature()
    smoulder(feature, NOW)
    look(feature, NOW)
    burn(feature, NOW)
    look(feature, NOW)
    steps = {
        one.kind: one.details["decided_by"]["condition"]
        for one in only_incident(feature).events.steps()
        if "decided_by" in one.details
    }
    assert steps == {"opened": "burn_rate 1d/2h", "severity_raised": "burn_rate 1h/5m"}


def test_evaluating_again_changes_nothing() -> None:
    feature = make_feature()
    make_channel(feature.team)
    burn(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    before = list(IncidentEvent.objects.values()), list(Notification.objects.values())
    for seconds in range(1, 20):
        assert look(feature, NOW + timedelta(seconds=seconds)).opened == ()
    assert before == (list(IncidentEvent.objects.values()), list(Notification.objects.values()))


def test_an_outage_is_named_as_one() -> None:
    feature = make_two_milestones()
    for minutes in (1, 0):
        burn(feature, NOW - minutes * MINUTE, milestone="complete", bad=59, of=60)
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.rule, incident.milestone) == ("burn_rate outage", "complete")
    assert "outage, 118 of 120 bad in 5 min" in incident.summary


def test_the_cause_is_the_component_that_exceeds_its_allocation_by_the_most() -> None:
    feature = make_feature()
    burn(feature, NOW)
    overrun(feature, NOW, component="retrieval", over_ms=900)  # 500 ms too long, over twice what it has
    overrun(feature, NOW, component="tools", over_ms=2_100)  # 1300 ms too long
    overrun(feature, NOW, component="model", over_ms=1_600)  # 100 ms too long
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.cause == {
        "component": "tools",
        "allocated_ms": 800,
        "observed_ms": pytest.approx(2_100, rel=0.011),
    }
    assert incident.summary.startswith("Support chat, first token: p99 9")
    assert "of 3 s, burning 66.7× over 1 h since 20:00 UTC." in incident.summary
    assert incident.summary.endswith("of 800 ms allocated.")


def test_an_incident_is_told_by_the_clock_of_its_team() -> None:
    feature = make_feature(team=make_team(time_zone="Asia/Kolkata"))
    burn(feature, NOW)
    look(feature, NOW)
    assert "over 1 h since 01:30 IST." in only_incident(feature).summary


def test_a_cause_among_timeouts_is_given_as_what_it_is_at_least() -> None:
    feature = make_feature()
    burn(feature, NOW)
    overrun(feature, NOW, component="tools", over_ms=30_000, status="timeout")
    look(feature, NOW)
    assert only_incident(feature).cause == {"component": "tools", "allocated_ms": 800, "observed_ms": 30_000}


def test_no_cause_is_named_where_every_component_keeps_its_allocation() -> None:
    feature = make_feature()
    burn(feature, NOW)
    calm(feature, NOW, "tools", milestone="complete")
    look(feature, NOW)
    assert only_incident(feature).cause is None


def test_a_component_that_overruns_under_a_calm_milestone_is_an_incident_of_its_own() -> None:
    feature = make_feature()
    channel = make_channel(feature.team)
    calm(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.milestone, incident.severity, incident.burn_rate) == (None, "ticket", None)
    assert incident.component is not None
    assert incident.component.name == "tools"
    assert incident.rule == "component_overrun tools"
    assert incident.cause is not None
    assert incident.cause["component"] == "tools"
    assert incident.summary == (
        "Support chat, tools: p99 2.10 s of 800 ms allocated, 41 of 63 over in 5 min since 20:00 UTC."
    )
    assert told(feature) == [(channel.name, "opened", "ticket")]


def test_two_components_that_overrun_are_two_incidents() -> None:
    feature = make_feature()
    overrun(feature, NOW, component="tools")
    overrun(feature, NOW, component="model")
    look(feature, NOW)
    assert {one.component.name for one in incidents_of(feature) if one.component} == {"tools", "model"}


def test_late_data_about_a_time_over_an_hour_past_opens_nothing() -> None:
    feature = make_feature()
    make_traffic(
        feature, at=NOW - timedelta(minutes=90), count=600, over=500, milestone="first_token", now=NOW
    )
    look(feature, NOW)
    assert incidents_of(feature) == []


def test_one_bad_request_in_the_hour_makes_no_news_of_late_data() -> None:
    feature = make_feature()
    make_traffic(
        feature, at=NOW - timedelta(minutes=90), count=600, over=500, milestone="first_token", now=NOW
    )
    make_traffic(feature, at=NOW - timedelta(minutes=40), count=100, over=1, milestone="first_token", now=NOW)
    calm(feature, NOW)
    look(feature, NOW)
    assert incidents_of(feature) == []


def test_a_component_with_the_longest_name_overruns_like_any_other() -> None:
    name = "é" * 200
    budget = {**feature_document()["latency_budgets"][0], "allocations": {name: 400}}
    feature = make_feature(components=[name], latency_budgets=[budget])
    make_channel(feature.team)
    overrun(feature, NOW, component=name)
    look(feature, NOW)
    assert only_incident(feature).rule == f"component_overrun {name}"


def test_a_component_that_has_no_allocation_overruns_nothing() -> None:
    feature = make_feature()
    overrun(feature, NOW, component="reranking", over_ms=60_000)
    look(feature, NOW)
    assert incidents_of(feature) == []


# -- Joining, raising, merging ----------------------------------------------------------------------


def test_a_ticket_becomes_a_page_and_is_told_again_as_one() -> None:
    feature = make_feature()
    every, pages = make_channel(feature.team), make_channel(feature.team, min_severity="page")
    smoulder(feature, NOW)
    look(feature, NOW)
    ticket = only_incident(feature)
    assert (ticket.severity, ticket.rule) == ("ticket", "burn_rate 1d/2h")
    assert told(feature) == [(every.name, "opened", "ticket")]
    burn(feature, NOW)
    overrun(feature, NOW)
    assert look(feature, NOW + timedelta(seconds=10)).raised == (ticket.pk,)
    page = only_incident(feature)
    assert (page.pk, page.severity, page.rule) == (ticket.pk, "page", "burn_rate 1h/5m")
    assert page.opened_at == NOW
    assert page.cause is not None
    assert page.cause["component"] == "tools"
    assert told(feature)[1:] == [(every.name, "opened", "page"), (pages.name, "opened", "page")]
    kinds = list(page.events.steps().values_list("kind", flat=True))
    assert kinds == ["opened", "severity_raised", "evidence"]
    assert "component_overrun tools" in page.events.steps().last().details["joined"]  # type: ignore[union-attr]


def test_a_page_takes_over_the_incidents_of_its_components_without_a_message_to_people() -> None:
    feature = make_two_milestones()
    make_channel(feature.team, kind="slack", config={"url": "https://hooks.slack.com/services/T/B/x"})
    for component in ("tools", "rendering"):
        overrun(feature, NOW, component=component, over_ms=2_500)
    look(feature, NOW)
    rendering, tools = sorted(incidents_of(feature), key=lambda one: one.component.name)
    assert len(told(feature)) == 2
    burn(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    page = Incident.objects.get(feature=feature, milestone="first_token")
    tools.refresh_from_db()
    rendering.refresh_from_db()
    assert (tools.state, tools.resolved_reason, tools.merged_into) == ("resolved", "merged", page)
    assert tools.events.steps().last().kind == "merged"  # type: ignore[union-attr]
    assert rendering.state == "open", "it is allocated under the other milestone"
    assert page.cause is not None
    assert page.cause["component"] == "tools"
    assert [event for _, event, _ in told(feature)] == ["opened", "opened", "opened"]


def test_a_component_that_overruns_under_a_page_joins_it_as_evidence_and_cause() -> None:
    feature = make_feature()
    make_channel(feature.team)
    burn(feature, NOW)
    look(feature, NOW)
    assert only_incident(feature).cause is None
    overrun(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    incident = only_incident(feature)
    assert incident.cause is not None
    assert incident.cause["component"] == "tools"
    assert "tools: p99" in incident.summary
    assert [one.kind for one in incident.events.steps()] == ["opened", "evidence", "cause_changed"]
    assert len(told(feature)) == 1


def slow_to_complete(feature: Feature, at) -> None:
    """Every first token comes in time, most answers are over late, and the tools take far too long."""
    calm(feature, at)
    burn(feature, at, milestone="complete", bad=59, of=60)
    overrun(feature, at)


def test_a_page_for_the_whole_answer_names_a_component_of_its_first_block() -> None:
    feature = make_feature(latency_budgets=ALL_UNDER_THE_FIRST)
    channel = make_channel(feature.team)
    slow_to_complete(feature, NOW)
    look(feature, NOW)
    page = only_incident(feature)
    assert (page.milestone, page.severity) == ("complete", "page")
    assert page.cause == {
        "component": "tools",
        "allocated_ms": 800,
        "observed_ms": pytest.approx(2_100, rel=0.011),
    }
    assert page.summary.endswith("of 800 ms allocated.")
    opened = page.events.steps().get()
    assert "component_overrun tools" in opened.details["evidence"]
    assert told(feature) == [(channel.name, "opened", "page")]


def test_a_page_for_the_whole_answer_merges_the_incident_of_a_component_of_its_first_block() -> None:
    feature = make_feature(latency_budgets=ALL_UNDER_THE_FIRST)
    make_channel(feature.team)
    overrun(feature, NOW)
    look(feature, NOW)
    slow_to_complete(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    component, page = incidents_of(feature)
    assert (component.resolved_reason, component.merged_into) == ("merged", page)
    assert [event for _, event, _ in told(feature)] == ["opened", "opened", "resolved"]


def test_of_two_pages_the_one_for_the_component_s_own_milestone_takes_its_overrun() -> None:
    feature = make_feature(latency_budgets=ALL_UNDER_THE_FIRST)
    slow_to_complete(feature, NOW)
    look(feature, NOW)
    burn(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    complete, first_token = incidents_of(feature)
    assert (complete.milestone, first_token.milestone) == ("complete", "first_token")
    assert complete.events.steps().last().details["left"] == ["component_overrun tools"]  # type: ignore[union-attr]
    assert "component_overrun tools" in first_token.events.steps().get().details["evidence"]
    for page in (complete, first_token):
        assert page.cause is not None
        assert page.cause["component"] == "tools"


def test_a_page_for_the_first_token_is_not_blamed_on_what_comes_after_it() -> None:
    feature = make_two_milestones()
    burn(feature, NOW)
    overrun(feature, NOW, component="rendering", over_ms=9_000)
    look(feature, NOW)
    page, component = incidents_of(feature)
    assert (page.milestone, page.cause) == ("first_token", None)
    assert component.component is not None
    assert component.component.name == "rendering"


def test_a_page_resolved_by_hand_holds_the_components_of_its_first_block_too() -> None:
    feature = make_feature(latency_budgets=ALL_UNDER_THE_FIRST)
    slow_to_complete(feature, NOW)
    look(feature, NOW)
    resolve_by_hand(feature, NOW + MINUTE)
    slow_to_complete(feature, NOW + 2 * MINUTE)
    look(feature, NOW + 2 * MINUTE)
    assert only_incident(feature).resolved_by == "kim@example.com"


def test_a_milestone_that_only_tickets_leaves_its_components_their_own_incidents() -> None:
    feature = make_feature()
    smoulder(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    assert [one.milestone for one in incidents_of(feature)] == ["first_token", None]


def test_an_overrun_that_outlasts_its_milestones_page_becomes_an_incident_of_its_own() -> None:
    feature = make_feature()
    rule = AlertRule.Kind.BURN_RATE
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature, kind=rule).update(keep_firing_seconds=0)
    burn(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    later = NOW + 5 * MINUTE
    make_traffic(feature, at=later, count=60_00, over=0, milestone="first_token")
    overrun(feature, later)
    look(feature, later)
    page, component = incidents_of(feature)
    assert (page.state, page.resolved_reason) == ("resolved", "recovered")
    assert (component.state, component.milestone) == ("open", None)


# -- Ending -----------------------------------------------------------------------------------------


def test_an_incident_ends_when_its_conditions_have_been_over_for_long_enough() -> None:
    feature = make_feature()
    channel = make_channel(feature.team)
    calm(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    calm(feature, NOW + 6 * MINUTE, "tools")
    look(feature, NOW + 6 * MINUTE)
    assert RuleState.objects.get(rule__feature=feature, key="tools").status == "recovering"
    assert only_incident(feature).state == "open"
    calm(feature, NOW + 10 * MINUTE, "tools")
    look(feature, NOW + 10 * MINUTE)
    assert only_incident(feature).state == "open"
    look(feature, NOW + 11 * MINUTE)
    incident = only_incident(feature)
    assert resolved_reason(feature) == "recovered"
    assert incident.resolved_at == NOW + 11 * MINUTE
    assert told(feature) == [(channel.name, "opened", "ticket"), (channel.name, "resolved", "ticket")]
    message = Notification.objects.get(event="incident.resolved").data["incident"]
    assert message["summary"] == f"Recovered. {incident.summary}"


def test_a_rules_own_time_to_keep_firing_overrules_the_setting(settings) -> None:
    settings.ALERT_KEEP_FIRING_SECONDS = 60
    feature = make_feature()
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature).update(keep_firing_seconds=600)
    overrun(feature, NOW)
    look(feature, NOW)
    for minutes in (6, 8, 10, 12, 14):
        calm(feature, NOW + minutes * MINUTE, "tools")
        look(feature, NOW + minutes * MINUTE)
        assert only_incident(feature).state == "open"
    calm(feature, NOW + 16 * MINUTE, "tools")
    look(feature, NOW + 16 * MINUTE)
    assert resolved_reason(feature) == "recovered"


def test_a_condition_that_comes_back_within_the_time_is_the_same_incident() -> None:
    feature = make_feature()
    make_channel(feature.team)
    overrun(feature, NOW)
    look(feature, NOW)
    calm(feature, NOW + 6 * MINUTE, "tools")
    look(feature, NOW + 6 * MINUTE)
    overrun(feature, NOW + 8 * MINUTE)
    look(feature, NOW + 8 * MINUTE)
    calm(feature, NOW + 14 * MINUTE, "tools")
    look(feature, NOW + 14 * MINUTE)
    assert only_incident(feature).state == "open"
    assert len(told(feature)) == 1


def test_silence_freezes_an_incident_and_then_ends_it_as_silent_and_not_recovered() -> None:
    feature = make_feature()
    make_channel(feature.team)
    overrun(feature, NOW)
    look(feature, NOW)
    look(feature, NOW + 6 * MINUTE)
    state = RuleState.objects.get(rule__feature=feature, key="tools")
    assert (state.status, state.reason, state.no_data_since) == ("firing", "no_data", NOW + 6 * MINUTE)
    assert only_incident(feature).state == "open"
    look(feature, NOW + 11 * MINUTE)
    assert resolved_reason(feature) == "no_data_timeout"
    message = Notification.objects.get(event="incident.resolved").data["incident"]
    assert message["summary"].startswith("Silent, not recovered: no more data came. Support chat, tools:")


def declare(feature: Feature, now, **overrides) -> None:
    declare_feature(
        team=feature.team, slug=feature.slug, document=feature_document(**overrides), actor="a test", now=now
    )


def archive(feature: Feature) -> None:
    declare(feature, NOW, archived=True)


def retire(feature: Feature) -> None:
    declare(feature, NOW, latency_budgets=[])


def take_allocation_away(feature: Feature) -> None:
    budget = {**feature_document()["latency_budgets"][0], "allocations": {"model": 1500}}
    declare(feature, NOW, latency_budgets=[budget])


def switch_off(feature: Feature) -> None:
    AlertRule.objects.filter(feature=feature).update(is_enabled=False)


@pytest.mark.parametrize(
    ("change", "happens", "reason"),
    [
        (archive, burn, "feature_archived"),
        (archive, overrun, "feature_archived"),
        (retire, burn, "milestone_retired"),
        (retire, overrun, "allocation_removed"),
        (take_allocation_away, overrun, "allocation_removed"),
        (switch_off, burn, "rule_disabled"),
        (switch_off, overrun, "rule_disabled"),
    ],
)
def test_what_is_no_longer_watched_ends_its_incident_and_says_why(change, happens, reason) -> None:
    feature = make_feature()
    make_channel(feature.team)
    happens(feature, NOW)
    look(feature, NOW)
    assert only_incident(feature).state == "open"
    change(feature)
    later = NOW + 3 * MINUTE  # past the instant from which a new version is in force
    look(feature, later)
    assert resolved_reason(feature) == reason
    assert [event for _, event, _ in told(feature)] == ["opened", "resolved"]
    states = RuleState.objects.filter(rule__feature=feature).values_list("status", "reason")
    assert set(states) == {("inactive", reason)}
    assert look(feature, later + MINUTE).states_written == 0


def test_a_sweep_finds_the_incident_of_an_archived_feature() -> None:
    feature = make_feature()
    burn(feature, NOW)
    look(feature, NOW)
    archive(feature)
    sweep(now=NOW)
    assert resolved_reason(feature) == "feature_archived"


def test_the_incident_of_a_rule_that_was_deleted_ends() -> None:
    feature = make_feature()
    AlertRule.objects.create(
        feature=feature, name="staging", environment="staging", kind="burn_rate", milestone="first_token"
    )
    make_traffic(feature, at=NOW, count=60, over=40, milestone="first_token", environment="staging")
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature, environment="staging").delete()
    look(feature, NOW)
    assert resolved_reason(feature) == "rule_removed"


# -- Resolved by hand -------------------------------------------------------------------------------


def resolve_by_hand(feature: Feature, at) -> Incident:
    incident = Incident.objects.unresolved().get(feature=feature)
    return incidents.resolve(incident_id=incident.pk, actor="kim@example.com", now=at)


def test_what_was_resolved_by_hand_stays_so_though_it_still_fires() -> None:
    feature = make_feature()
    burn(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    resolve_by_hand(feature, NOW + MINUTE)
    for minutes in (2, 3, 4):
        burn(feature, NOW + minutes * MINUTE)
        overrun(feature, NOW + minutes * MINUTE)
        look(feature, NOW + minutes * MINUTE)
    assert only_incident(feature).resolved_by == "kim@example.com"


def test_after_half_an_hour_what_still_fires_is_a_new_incident() -> None:
    feature = make_feature()
    burn(feature, NOW)
    look(feature, NOW)
    resolve_by_hand(feature, NOW + MINUTE)
    for minutes in (20, 30):
        burn(feature, NOW + minutes * MINUTE)
        look(feature, NOW + minutes * MINUTE)
        assert len(incidents_of(feature)) == 1
    look(feature, NOW + 31 * MINUTE)
    assert [one.state for one in incidents_of(feature)] == ["resolved", "open"]


def test_once_its_conditions_were_inactive_it_opens_anew_at_once() -> None:
    feature = make_feature()
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature).update(keep_firing_seconds=0)
    overrun(feature, NOW)
    look(feature, NOW)
    resolve_by_hand(feature, NOW + MINUTE)
    calm(feature, NOW + 6 * MINUTE, "tools")
    look(feature, NOW + 6 * MINUTE)
    overrun(feature, NOW + 7 * MINUTE)
    look(feature, NOW + 7 * MINUTE)
    assert [one.state for one in incidents_of(feature)] == ["resolved", "open"]


def test_a_page_is_news_though_a_ticket_was_resolved_by_hand() -> None:
    feature = make_feature()
    smoulder(feature, NOW)
    look(feature, NOW)
    resolve_by_hand(feature, NOW)
    look(feature, NOW + MINUTE)
    assert len(incidents_of(feature)) == 1
    burn(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    assert [(one.state, one.severity) for one in incidents_of(feature)] == [
        ("resolved", "ticket"),
        ("open", "page"),
    ]


# -- Quiet sweeps -----------------------------------------------------------------------------------


def test_a_sweep_over_quiet_features_writes_nothing() -> None:
    features = [make_feature() for _ in range(3)]
    for feature in features:
        calm(feature, NOW, "tools")
    sweep(now=NOW)
    with CaptureQueriesContext(connection) as queries:
        done = sweep(now=NOW + timedelta(seconds=10))
    assert done is not None
    assert (done.features, done.states_written) == (3, 0)
    assert [q["sql"] for q in queries if not q["sql"].lstrip().startswith(("SELECT", "WITH"))] == []
    assert RuleState.objects.count() == 0


def test_the_number_of_statements_does_not_grow_with_the_quiet_features() -> None:
    def statements(ids: list[int]) -> int:
        evaluate(feature_ids=ids, now=NOW)
        with CaptureQueriesContext(connection) as queries:
            evaluate(feature_ids=ids, now=NOW + timedelta(seconds=10))
        return len(queries)

    ids = []
    for _ in range(6):
        feature = make_two_milestones()
        calm(feature, NOW, "tools", "model")
        ids.append(feature.pk)
    assert statements(ids[:1]) == statements(ids)


def test_an_inactive_condition_keeps_the_reason_that_ended_it() -> None:
    feature = make_feature()
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature).update(keep_firing_seconds=0)
    overrun(feature, NOW)
    look(feature, NOW)
    calm(feature, NOW + 6 * MINUTE, "tools")
    look(feature, NOW + 6 * MINUTE)
    for minutes in (7, 20):
        assert look(feature, NOW + minutes * MINUTE).states_written == 0
    state = RuleState.objects.get(rule__feature=feature)
    assert (state.status, state.reason) == ("inactive", "within_objective")
    assert state.evaluated_at == NOW + 6 * MINUTE


# -- At the same time -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_chain_and_a_sweep_at_the_same_time_open_one_incident_and_tell_each_channel_once() -> None:
    """Both have decided that it burns before either may write; the second decides again after the first."""
    feature = make_feature()
    channels = [make_channel(feature.team) for _ in range(2)]
    burn(feature, NOW)
    overrun(feature, NOW)
    with held("SELECT pg_advisory_xact_lock(%s)", [locks.key_of_feature(feature.pk)]) as start:
        verbs = [
            start(partial(evaluate, feature_ids=[feature.pk], now=NOW)),
            start(partial(sweep, now=NOW)),
        ]
        assert is_waiting("pg_advisory_xact_lock", count=2)
    assert sorted(len(verb.result().opened) for verb in verbs) == [0, 1]
    assert len(incidents_of(feature)) == 1
    assert sorted(told(feature)) == sorted((one.name, "opened", "page") for one in channels)


@pytest.mark.django_db(transaction=True)
def test_many_evaluations_at_once_leave_one_incident() -> None:
    feature = make_feature()
    make_channel(feature.team)
    burn(feature, NOW)
    at_once(*[partial(evaluate, feature_ids=[feature.pk], now=NOW)] * 4)
    assert len(incidents_of(feature)) == 1
    assert len(told(feature)) == 1
    assert AlertRule.objects.filter(feature=feature).count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_sweep_leaves_the_work_to_the_one_that_is_at_it() -> None:
    feature = make_feature()
    burn(feature, NOW)
    with other_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [locks.NAMESPACE, locks.EVALUATION_SWEEP])
        assert sweep(now=NOW) is None
        assert incidents_of(feature) == []
    done = sweep(now=NOW)
    assert done is not None
    assert len(done.opened) == 1


@pytest.mark.django_db(transaction=True)
def test_measurements_of_a_new_release_do_not_wait_for_an_evaluation() -> None:
    feature = make_feature()
    with transaction.atomic():
        locks.lock_features([feature.pk])
        item = measurement(feature, ended_at=NOW, duration_ms=1, milestone="first_token", release="new")
        at_once(partial(measure, feature.team, [item]))


def test_an_outage_of_everything_is_settled_a_few_features_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "FEATURES_PER_TRANSACTION", 2)
    team = make_team()
    make_channel(team)
    for _ in range(5):
        feature = make_feature(team=team)
        burn(feature, NOW)
        overrun(feature, NOW)
    done = sweep(now=NOW)
    assert done is not None
    assert len(done.opened) == 5
    assert Notification.objects.count() == 5


# -- A page within an incident that is open for hours ------------------------------------------------


def long_after_an_outage(feature: Feature) -> tuple[Incident, datetime]:
    """An outage of twenty minutes that somebody acknowledged, and when only the slow rules still hold."""
    for minute in range(20):
        make_traffic(
            feature, at=NOW + minute * MINUTE, count=60, over=60, over_ms=9_000, milestone="first_token"
        )
    at = NOW + 20 * MINUTE
    look(feature, at)
    incident = only_incident(feature)
    incidents.acknowledge(incident_id=incident.pk, actor="kim@example.com", now=at + MINUTE)
    while incident.paging_ended_at is None and at < NOW + timedelta(hours=12):
        at += 10 * MINUTE
        calm(feature, at)
        look(feature, at)
        incident = only_incident(feature)
    assert (incident.state, incident.paging_ended_at) == ("acknowledged", at)
    return incident, at


def test_a_second_outage_pages_again_though_slow_rules_kept_the_incident_open() -> None:
    feature = make_feature()
    make_channel(feature.team)
    incident, ended_at = long_after_an_outage(feature)
    at = ended_at + 40 * MINUTE
    for minute in range(10):
        burn(feature, at - minute * MINUTE, bad=60)
    assert look(feature, at).opened == (incident.pk,)
    again = only_incident(feature)
    assert (again.state, again.reopenings, again.paging_ended_at) == ("open", 1, None)
    assert [event for _, event, _ in told(feature)] == ["opened", "acknowledged", "reopened"]
    assert look(feature, at + MINUTE).opened == ()
    assert replay(again.events.steps()) == facts_of(only_incident(feature))


def test_a_page_that_only_paused_for_some_minutes_is_the_same() -> None:
    feature = make_feature()
    make_channel(feature.team)
    incident, ended_at = long_after_an_outage(feature)
    at = ended_at + 20 * MINUTE
    for minute in range(10):
        burn(feature, at - minute * MINUTE, bad=60)
    assert look(feature, at).opened == ()
    again = only_incident(feature)
    assert (again.pk, again.state, again.paging_ended_at) == (incident.pk, "acknowledged", None)
    assert [event for _, event, _ in told(feature)] == ["opened", "acknowledged"]
