"""Rules that somebody asked for, from measurements to incidents: what they open, join and say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts.documents import incident_document
from alerts.evaluation import SLOW_KINDS_EVERY, evaluate, sweep
from alerts.evidence import evidence_words
from alerts.history import replay
from alerts.models import AlertRule, Incident, RuleState
from alerts.summaries import story
from alerts.wording import letter
from budgets.models import Batch, Feature
from tests.alerts.scenes import MINUTE, burn, calm, incidents_of, look, overrun, told
from tests.factories import (
    NOW,
    feature_document,
    make_channel,
    make_feature,
    make_traffic,
    measure,
    measurement,
    redeclare,
)

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def make_rule(feature: Feature, kind: str, **overrides: Any) -> AlertRule:
    """Without the default rules, whose findings are somebody else's."""
    look(feature, NOW)
    AlertRule.objects.filter(feature=feature, is_default=True).update(is_enabled=False)
    name = overrides.pop("name", f"our {kind}")
    return AlertRule.objects.create(feature=feature, kind=kind, name=name, **overrides)


def with_defaults(feature: Feature) -> None:
    AlertRule.objects.filter(feature=feature, is_default=True).update(is_enabled=True)


def only_incident(feature: Feature) -> Incident:
    (incident,) = incidents_of(feature)
    return incident


def evidence_of(incident: Incident) -> set[str]:
    return set(replay(incident.events.all()).evidence)


def subject(incident: Incident) -> str:
    told_of = story(incident, "incident.opened", note="", now=incident.opened_at)
    return letter(incident_document(incident), told_of).subject


def traffic(
    feature: Feature,
    hours: range,
    *,
    count: int = 20,
    ms: float = 100.0,
    over: int = 0,
    over_ms: float = 9_000,
    now: datetime = NOW,
    **where: str,
) -> None:
    """So many measurements in each of these hours, counted back from the running one, `over` of them too slow."""
    hour = now.replace(minute=0, second=0)
    measure(
        feature.team,
        [
            measurement(
                feature,
                ended_at=hour - back * HOUR + timedelta(seconds=20) + n * timedelta(milliseconds=10),
                duration_ms=over_ms if n < over else ms,
                **where,
            )
            for back in hours
            for n in range(count)
        ],
        now=now,
    )


# -- Timeouts ---------------------------------------------------------------------------------------


def test_a_component_that_times_out_has_an_incident_of_its_own() -> None:
    feature = make_feature()
    make_rule(feature, "timeouts")
    overrun(feature, NOW, component="model", over=12, of=300, status="timeout", over_ms=30_000)
    calm(feature, NOW, "tools")
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.milestone, incident.component.name) == (None, "model")
    assert (incident.severity, incident.burn_rate) == ("ticket", None)
    assert incident.rule == "our timeouts model"
    assert incident.summary == "Support chat, model: 12 of 300 timed out in 5 min since 20:00 UTC."
    assert subject(incident) == "✕ Support chat, model: 12 of 300 timed out in 5 min"


def test_timeouts_and_an_overrun_of_a_component_share_an_incident_that_the_milestones_page_takes() -> None:
    feature = make_feature()
    make_rule(feature, "timeouts")
    with_defaults(feature)
    make_channel(feature.team)
    overrun(feature, NOW, component="tools", over=30, of=100, status="timeout", over_ms=30_000)
    look(feature, NOW)
    incident = only_incident(feature)
    assert evidence_of(incident) == {"our timeouts tools", "component_overrun tools"}
    burn(feature, NOW + MINUTE)
    look(feature, NOW + MINUTE)
    merged, page = incidents_of(feature)
    assert merged.merged_into == page
    assert {"our timeouts tools", "component_overrun tools"} < evidence_of(page)
    # The end is for the program, which holds an alert for the component's incident.
    assert [event for _, event, _ in told(feature)] == ["opened", "opened", "resolved"]


def test_a_rule_about_one_component_looks_at_no_other() -> None:
    feature = make_feature()
    make_rule(feature, "timeouts", component="tools")
    overrun(feature, NOW, component="model", over=30, of=100, status="timeout")
    look(feature, NOW)
    assert incidents_of(feature) == []
    overrun(feature, NOW, component="tools", over=30, of=100, status="timeout")
    look(feature, NOW)
    assert only_incident(feature).component.name == "tools"


def test_a_rule_about_the_overrun_of_one_component_looks_at_no_other() -> None:
    feature = make_feature()
    make_rule(feature, "component_overrun", component="tools")
    overrun(feature, NOW, component="model", over_ms=9_000)
    overrun(feature, NOW, component="tools")
    look(feature, NOW)
    assert only_incident(feature).component.name == "tools"


# -- Severity ---------------------------------------------------------------------------------------


def test_the_severity_of_a_rule_stands_in_for_its_kinds() -> None:
    feature = make_feature()
    rule = make_rule(feature, "timeouts", severity="page")
    overrun(feature, NOW, over=30, of=100, status="timeout")
    look(feature, NOW)
    assert only_incident(feature).severity == "page"
    AlertRule.objects.filter(pk=rule.pk).update(is_enabled=False)
    AlertRule.objects.filter(feature=feature, is_default=True).update(is_enabled=True, severity="ticket")
    burn(feature, NOW)
    look(feature, NOW)
    assert [one.severity for one in incidents_of(feature) if one.milestone] == ["ticket"]


# -- Error budget -----------------------------------------------------------------------------------


def test_an_error_budget_is_told_of_at_each_threshold_within_one_incident() -> None:
    feature = make_feature()
    make_rule(feature, "error_budget", milestone="first_token")
    make_channel(feature.team)
    traffic(feature, range(2, 3), count=1000, over=6, milestone="first_token")  # 40 % left
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.milestone, incident.severity, incident.burn_rate) == ("first_token", "ticket", None)
    assert evidence_of(incident) == {"our error_budget 50"}
    assert incident.summary == (
        "Support chat, first token: less than 50 % of the error budget left since 20:00 UTC. "
        "40.0 % of the error budget left, gone in 19 days."
    )
    later = NOW + 2 * MINUTE
    traffic(feature, range(1), count=10, over=3, milestone="first_token", now=later)
    look(feature, later)
    incident.refresh_from_db()
    assert evidence_of(incident) == {"our error_budget 50", "our error_budget 25"}
    assert "less than 25 %" in incident.summary
    traffic(feature, range(1), count=10, over=5, milestone="first_token", now=later)
    look(feature, later + MINUTE)
    incident.refresh_from_db()
    assert incident.severity == "page"
    assert incident.rule == "our error_budget 0"
    assert "the error budget is exhausted" in subject(incident)
    assert told(feature) == [
        (told(feature)[0][0], "opened", "ticket"),
        (told(feature)[0][0], "opened", "page"),
    ]


def test_an_error_budget_rule_watches_the_thresholds_that_it_is_given() -> None:
    feature = make_feature()
    make_rule(feature, "error_budget", milestone="first_token", parameters={"remaining_percents": [30]})
    traffic(feature, range(2, 3), count=1000, over=8, milestone="first_token")
    look(feature, NOW)
    assert evidence_of(only_incident(feature)) == {"our error_budget 30"}


# -- Threshold --------------------------------------------------------------------------------------


def test_a_percentile_over_a_threshold_opens_an_incident_of_the_milestone() -> None:
    feature = make_feature()
    make_rule(
        feature,
        "threshold",
        name="slow first token",
        milestone="first_token",
        parameters={"percentile": "p95", "threshold_ms": 300},
    )
    make_traffic(feature, at=NOW, count=50, over=5, over_ms=2000, milestone="first_token")
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.rule == "slow first token p95"
    assert incident.summary.startswith(
        "Support chat, first token: p95 1.99 s over 5 min, above 300 ms since 20:00 UTC."
    )


def test_a_threshold_of_a_component_without_an_allocation_counts_timeouts_as_slow() -> None:
    feature = make_feature()
    make_rule(
        feature,
        "threshold",
        component="cache",
        severity="page",
        parameters={"percentile": "p99", "threshold_ms": 60_000},
    )
    make_traffic(feature, at=NOW, count=50, over=5, over_ms=1000, over_status="timeout", component="cache")
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.component.name, incident.severity) == ("cache", "page")
    assert "p99 ≥ 1" in incident.summary


def test_a_threshold_fires_when_it_has_held_for_as_long_as_asked() -> None:
    feature = make_feature()
    make_rule(
        feature,
        "threshold",
        milestone="first_token",
        for_seconds=600,
        parameters={"percentile": "p50", "threshold_ms": 300},
    )
    for minutes in range(0, 12, 2):
        at = NOW + minutes * MINUTE
        make_traffic(feature, at=at, count=30, over=30, over_ms=500, milestone="first_token")
        look(feature, at)
        assert len(incidents_of(feature)) == (minutes >= 10)


# -- Trend ------------------------------------------------------------------------------------------


def test_a_day_that_is_slower_hour_by_hour_than_the_one_before_opens_an_incident() -> None:
    feature = make_feature()
    make_rule(feature, "trend", milestone="first_token")
    traffic(feature, range(25, 49), ms=1000, milestone="first_token")
    traffic(feature, range(1, 25), ms=1100, milestone="first_token")
    look(feature, NOW)
    assert incidents_of(feature) == []
    traffic(feature, range(1, 25), count=60, ms=1350, milestone="first_token")
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.rule == "our trend 24h"
    assert "p95 35 % above the day before, the median of 24 h since 20:00 UTC." in incident.summary


# -- Forecast ---------------------------------------------------------------------------------------


def week_long() -> Feature:
    budget = {**feature_document()["latency_budgets"][0], "window_days": 7}
    return make_feature(latency_budgets=[budget])


def test_an_error_budget_that_will_be_gone_within_two_days_opens_an_incident() -> None:
    feature = week_long()
    make_rule(feature, "forecast", milestone="first_token")
    traffic(feature, range(7, 150), count=60, milestone="first_token")
    traffic(feature, range(1, 7), count=60, over=6, milestone="first_token")
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.rule == "our forecast 48h"
    assert "the error budget will be gone within " in incident.summary
    assert "% of the error budget left, gone in " in incident.summary
    state = RuleState.objects.get(rule__kind="forecast")
    # 8940 judged, 36 bad of 89; six an hour come, of 60: 53.4 + 0.6 an hour are left.
    assert state.evidence["likely_hours"] == 10


def test_a_burn_that_lasts_longer_than_two_days_opens_none() -> None:
    feature = week_long()
    make_rule(feature, "forecast", milestone="first_token")
    traffic(feature, range(1, 150), count=60, milestone="first_token")
    traffic(feature, range(3, 4), count=60, over=2, milestone="first_token")
    look(feature, NOW)
    assert incidents_of(feature) == []


# -- No data ----------------------------------------------------------------------------------------


def report(feature: Feature, until: datetime, minutes: int, **where: str) -> None:
    """A measurement a minute, the last one in the minute of `until`."""
    measure(
        feature.team,
        [measurement(feature, ended_at=until - n * MINUTE, duration_ms=100, **where) for n in range(minutes)],
        now=until,
    )


def test_a_series_that_falls_silent_opens_an_incident_until_it_reports_again() -> None:
    feature = make_feature()
    make_rule(feature, "no_data", keep_firing_seconds=0)
    report(feature, NOW - 20 * MINUTE, 90, component="tools")
    report(feature, NOW, 90, milestone="first_token")
    look(feature, NOW)
    incident = only_incident(feature)
    assert (incident.component.name, incident.rule) == ("tools", "our no_data tools")
    assert incident.summary == "Support chat, tools: no measurements since 19:40 UTC."
    report(feature, NOW + MINUTE, 1, component="tools")
    look(feature, NOW + MINUTE)
    incident.refresh_from_db()
    assert (incident.state, incident.resolved_reason) == ("resolved", "recovered")


def test_a_milestone_that_falls_silent_ends_as_silent_after_a_day() -> None:
    feature = make_feature()
    make_rule(feature, "no_data", milestone="first_token", keep_firing_seconds=0)
    report(feature, NOW - 20 * MINUTE, 90, milestone="first_token")
    look(feature, NOW)
    assert only_incident(feature).milestone == "first_token"
    look(feature, NOW + 23 * HOUR)
    assert only_incident(feature).state == "open"
    look(feature, NOW + 25 * HOUR)
    assert only_incident(feature).resolved_reason == "no_data_timeout"


def waiting(feature: Feature, *, received_at: datetime, **overrides: Any) -> Batch:
    """A batch of the team that was accepted and is not rolled up."""
    return Batch.objects.create(
        team=feature.team,
        received_at=received_at,
        measurement_count=1,
        ended_from=received_at - MINUTE,
        ended_to=received_at,
        **overrides,
    )


@pytest.mark.parametrize("state", ["pending", "failed"])
def test_silence_is_no_silence_while_our_own_roll_up_is_behind(state: str) -> None:
    feature = make_feature()
    make_rule(feature, "no_data", milestone="first_token", parameters={"silent_minutes": 15})
    report(feature, NOW, 90, milestone="first_token")
    failed = {"state": "failed", "failed_at": NOW, "failure": "out of range"} if state == "failed" else {}
    batch = waiting(feature, received_at=NOW + 15 * MINUTE, **failed)
    look(feature, NOW + 20 * MINUTE)
    assert incidents_of(feature) == []
    batch.delete()
    look(feature, NOW + 20 * MINUTE)
    assert only_incident(feature).rule == "our no_data milestone:first_token"
    # What comes to lag later does not end it.
    waiting(feature, received_at=NOW + 25 * MINUTE)
    look(feature, NOW + 30 * MINUTE)
    found = RuleState.objects.get()
    assert (found.status, found.reason) == ("firing", "backlog")
    assert evidence_words(found.evidence) == (
        "last measured 21 Nov 2026, 20:00 UTC; what was sent up to 21 Nov 2026, 20:25 UTC waits for its roll-up; "
        "limit 15 min without a measurement"
    )


@pytest.mark.parametrize(
    "received_at",
    [
        NOW + 20 * MINUTE - timedelta(seconds=10),  # it is on its way
        NOW + 4 * MINUTE,  # so long ago that it is silent all the same
    ],
)
def test_what_does_not_lag_or_ended_before_the_silence_is_no_excuse(received_at: datetime) -> None:
    feature = make_feature()
    make_rule(feature, "no_data", milestone="first_token", parameters={"silent_minutes": 15})
    report(feature, NOW, 90, milestone="first_token")
    waiting(feature, received_at=received_at)
    look(feature, NOW + 20 * MINUTE)
    assert only_incident(feature).rule == "our no_data milestone:first_token"


def test_what_another_team_waits_for_is_no_excuse() -> None:
    feature = make_feature()
    make_rule(feature, "no_data", milestone="first_token", parameters={"silent_minutes": 15})
    report(feature, NOW, 90, milestone="first_token")
    waiting(make_feature(slug="elsewhere"), received_at=NOW + 15 * MINUTE)
    look(feature, NOW + 20 * MINUTE)
    assert len(incidents_of(feature)) == 1


def test_what_was_never_steady_or_is_declared_no_more_is_not_silent() -> None:
    feature = make_feature()
    make_rule(feature, "no_data")
    report(feature, NOW - 20 * MINUTE, 30, component="tools")
    report(feature, NOW - 20 * MINUTE, 90, component="never declared")
    look(feature, NOW)
    assert incidents_of(feature) == []


# -- Unallocated component --------------------------------------------------------------------------


def test_a_component_that_nobody_allocated_is_told_of_when_it_takes_time() -> None:
    feature = make_feature()
    make_rule(feature, "unallocated_component", keep_firing_seconds=0)
    make_traffic(feature, at=NOW, count=60, over=0, good_ms=1000, milestone="first_token")
    make_traffic(feature, at=NOW, count=60, over=0, good_ms=72, component="reranking")
    make_traffic(feature, at=NOW, count=60, over=0, good_ms=30, component="guardrails")
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.rule == "our unallocated_component reranking"
    assert incident.summary == (
        "Support chat, reranking: not allocated, takes 7.20 % of the time to first token over 1 h "
        "since 20:00 UTC."
    )
    budget = {**feature_document()["latency_budgets"][0], "allocations": {"model": 1500, "reranking": 100}}
    redeclare(feature, components=["model", "reranking"], latency_budgets=[budget], now=NOW)
    look(feature, NOW + 5 * MINUTE)
    incident.refresh_from_db()
    assert incident.resolved_reason == "component_allocated"


# -- How often, and at what price -------------------------------------------------------------------


def test_slow_kinds_are_decided_once_a_minute_and_stand_in_between() -> None:
    feature = make_feature()
    make_rule(feature, "error_budget", milestone="first_token", keep_firing_seconds=0)
    evaluate(feature_ids=[feature.pk], now=NOW, with_slow=False)
    traffic(feature, range(2, 3), count=1000, over=8, milestone="first_token")
    sweep(now=NOW)
    assert only_incident(feature).state == "open"
    traffic(feature, range(1), count=3000, milestone="first_token")  # 80 % left
    for seconds in (10, 20, 50):
        sweep(now=NOW + timedelta(seconds=seconds))
    evaluate(feature_ids=[feature.pk], now=NOW + timedelta(seconds=55), with_slow=False)
    assert only_incident(feature).state == "open"
    assert set(RuleState.objects.filter(rule__kind="error_budget").values_list("status", flat=True)) == {
        "firing"
    }
    sweep(now=NOW + SLOW_KINDS_EVERY)
    assert only_incident(feature).resolved_reason == "recovered"


def test_a_rule_that_is_switched_off_ends_its_incident_between_two_looks() -> None:
    feature = make_feature()
    rule = make_rule(feature, "error_budget", milestone="first_token")
    traffic(feature, range(2, 3), count=1000, over=8, milestone="first_token")
    look(feature, NOW)
    AlertRule.objects.filter(pk=rule.pk).update(is_enabled=False)
    evaluate(feature_ids=[feature.pk], now=NOW + MINUTE, with_slow=False)
    assert only_incident(feature).resolved_reason == "rule_disabled"


def test_a_rule_that_is_gone_ends_its_incident_beside_rules_that_are_quiet() -> None:
    feature = make_feature()
    rule = make_rule(feature, "error_budget", milestone="first_token")
    with_defaults(feature)
    traffic(feature, range(30, 31), count=1000, over=8, milestone="first_token")
    calm(feature, NOW)
    look(feature, NOW)
    assert evidence_of(only_incident(feature)) == {"our error_budget 50", "our error_budget 25"}
    rule.delete()
    look(feature, NOW + MINUTE)
    assert only_incident(feature).resolved_reason == "rule_removed"


EVERY_KIND = [
    ("timeouts", {}),
    ("error_budget", {"milestone": "first_token"}),
    ("threshold", {"milestone": "first_token", "parameters": {"threshold_ms": 300}}),
    ("trend", {"milestone": "first_token"}),
    ("forecast", {"milestone": "first_token"}),
    ("no_data", {}),
    ("unallocated_component", {}),
]


def test_rules_of_every_kind_take_as_many_statements_for_many_features_as_for_one() -> None:
    def add() -> None:
        feature = make_feature()
        for kind, values in EVERY_KIND:
            make_rule(feature, kind, **values)
        calm(feature, NOW, "tools")

    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            evaluate(feature_ids=None, now=NOW)
        return len(captured)

    add()
    statements()
    one = statements()
    for _ in range(3):
        add()
    statements()
    assert statements() == one


def test_what_nobody_asked_for_is_not_read() -> None:
    feature = make_feature()
    calm(feature, NOW, "tools")
    look(feature, NOW)
    with CaptureQueriesContext(connection) as captured:
        evaluate(feature_ids=None, now=NOW)
    assert len(captured) == 10


def test_a_rule_and_a_component_with_long_names_open_an_incident() -> None:
    component = "c" * 200
    feature = make_feature()
    make_rule(feature, "timeouts", name="r" * 200)
    overrun(feature, NOW - MINUTE, component=component, status="timeout")
    look(feature, NOW)
    incident = only_incident(feature)
    assert incident.rule == f"{'r' * 200} {'c' * 99}"
    assert evidence_of(incident) == {f"{'r' * 200} {component}"}
