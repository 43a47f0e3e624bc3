"""Every named constraint of alerts, broken once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction

from alerts.models import (
    AlertRule,
    Channel,
    DeliveryAttempt,
    EscalationPolicy,
    FollowUp,
    Incident,
    IncidentEvent,
    LivingAlert,
    MaintenanceWindow,
    Notification,
    ReportMail,
    ReportSubscription,
    RuleState,
    Schedule,
    ScheduleOverride,
    ScheduleTurn,
    Silence,
)
from budgets.models import Component, Feature, Membership
from tests.factories import NOW, make_channel, make_feature, make_team
from tests.people import make_person

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(minutes=1)
MATCHERS = [{"name": "feature", "operator": "=", "value": "support-chat"}]


class Rows:
    """One valid row of everything; a test changes one or adds another."""

    def __init__(self) -> None:
        self.team = make_team()
        self.feature = make_feature(team=self.team)
        self.channel = make_channel(self.team)
        self.rule = self.make_rule(
            name="burn_rate first_token", kind="burn_rate", milestone="first_token", is_default=True
        )
        self.state = self.make_state(key="1h/5m", status="inactive")
        self.incident = self.make_incident()
        self.notification = self.make_notification()
        self.attempt = DeliveryAttempt.objects.create(
            notification=self.notification, number=1, started_at=NOW
        )
        self.living = LivingAlert.objects.create(incident=self.incident, channel=self.channel, next_at=NOW)
        self.follow_up = FollowUp.objects.create(incident=self.incident)
        self.silence = Silence.objects.create(
            team=self.team, matchers=MATCHERS, reason="Load test", author="kim", starts_at=NOW, ends_at=LATER
        )
        self.window = self.make_window()
        self.policy = self.make_policy()
        self.schedule = self.make_schedule()
        self.turn = ScheduleTurn.objects.create(schedule=self.schedule, position=0)
        self.override = ScheduleOverride.objects.create(
            schedule=self.schedule, starts_at=NOW, ends_at=LATER, author="kim"
        )
        self.membership = Membership.objects.get(user=make_person("kim@example.com", team=self.team))
        self.subscription = self.make_subscription()
        self.report_mail = self.make_report_mail()

    def component(self, name: str = "tools") -> Component:
        return Component.objects.get(feature=self.feature, name=name)

    def make_rule(self, **values: Any) -> AlertRule:
        return AlertRule.objects.create(feature=self.feature, **values)

    def make_window(self) -> MaintenanceWindow:
        return MaintenanceWindow.objects.create(
            team=self.team,
            name="Backups",
            matchers=[],
            time_zone="Europe/Berlin",
            starts_on=NOW.date(),
            starts_at=NOW.time(),
            duration_minutes=60,
            author="kim",
        )

    def make_subscription(self) -> ReportSubscription:
        return ReportSubscription.objects.create(
            membership=self.membership, period="week", time_zone="Europe/Berlin", due_at=LATER
        )

    def make_report_mail(self) -> ReportMail:
        return ReportMail.objects.create(
            user=self.membership.user,
            team=self.team,
            period="week",
            first_day=date(2026, 11, 16),
            environment="production",
            time_zone="Europe/Berlin",
            created_at=NOW,
            next_attempt_at=NOW,
        )

    def make_policy(self) -> EscalationPolicy:
        steps = [{"notify": [{"kind": "channel", "name": "on-call"}], "wait_minutes": 5}]
        return EscalationPolicy.objects.create(team=self.team, name="Pages", steps=steps)

    def make_schedule(self) -> Schedule:
        return Schedule.objects.create(
            team=self.team,
            name="On call",
            time_zone="Europe/Berlin",
            starts_on=NOW.date(),
            hands_over_at=NOW.time(),
        )

    def make_state(self, **values: Any) -> RuleState:
        defaults = {"rule": self.rule, "since": NOW, "reason": "burning", "evaluated_at": NOW}
        return RuleState.objects.create(**{**defaults, **values})

    def make_incident(self, **values: Any) -> Incident:
        defaults = {
            "feature": self.feature,
            "environment": "production",
            "milestone": "first_token",
            "severity": "ticket",
            "rule": "burn_rate 1h/5m",
            "summary": "It burns.",
            "opened_at": NOW,
        }
        return Incident.objects.create(**{**defaults, **values})

    def make_notification(self, **values: Any) -> Notification:
        defaults = {
            "incident": self.incident,
            "channel": self.channel,
            "event": "incident.opened",
            "severity": "ticket",
            "data": {},
            "created_at": NOW,
            "next_attempt_at": NOW,
        }
        return Notification.objects.create(**{**defaults, **values})


def put(row: str, **values: Any) -> Callable[[Rows], Any]:
    """Changes the row of this name."""

    def change(rows: Rows) -> None:
        found = getattr(rows, row)
        for name, value in values.items():
            setattr(found, name, value(rows) if callable(value) else value)
        found.save()

    return change


GIVEN_UP = {"state": "undeliverable", "finished_at": NOW, "next_attempt_at": None}
DELIVERED = {"state": "delivered", "finished_at": NOW, "next_attempt_at": None}
RESOLVED = {"state": "resolved", "resolved_at": LATER, "resolved_reason": "recovered"}
FIRING = {"status": "firing", "active_since": NOW}

VIOLATIONS: list[tuple[str, Callable[[Rows], Any]]] = [
    (
        "alert_rule_name_once_per_feature",
        lambda rows: rows.make_rule(name="burn_rate first_token", kind="no_data"),
    ),
    (
        "alert_rule_default_once",
        lambda rows: rows.make_rule(name="again", kind="burn_rate", milestone="first_token", is_default=True),
    ),
    ("alert_rule_has_a_name", put("rule", name="")),
    ("alert_rule_component_is_not_empty", put("rule", kind="timeouts", milestone=None, component="")),
    ("alert_rule_severity_is_known", put("rule", severity="disaster")),
    ("alert_rule_milestone_is_known", put("rule", milestone="last_token")),
    ("alert_rule_target_fits_its_kind", put("rule", kind="threshold", milestone=None)),
    ("alert_rule_target_fits_its_kind", put("rule", kind="trend", component="tools")),
    ("alert_rule_target_fits_its_kind", put("rule", kind="no_data", component="tools")),
    ("alert_rule_target_fits_its_kind", put("rule", kind="unallocated_component")),
    ("alert_rule_target_fits_its_kind", put("rule", milestone=None)),
    ("alert_rule_target_fits_its_kind", put("rule", kind="component_overrun")),
    ("alert_rule_target_fits_its_kind", put("rule", kind="weather", milestone=None)),
    ("rule_state_once", lambda rows: rows.make_state(key="1h/5m")),
    ("rule_state_status_is_known", put("state", status="asleep", active_since=NOW)),
    ("rule_state_active_since_exactly_while_active", put("state", active_since=NOW)),
    ("rule_state_active_since_exactly_while_active", put("state", status="firing", severity="page")),
    ("rule_state_that_fires_has_a_severity", put("state", **FIRING)),
    ("rule_state_that_fires_has_a_severity", put("state", **FIRING, severity="disaster")),
    ("channel_name_once_per_team", lambda rows: make_channel(rows.team, name=rows.channel.name)),
    ("channel_severity_is_known", put("channel", min_severity="disaster")),
    ("channel_has_a_name", put("channel", name="")),
    ("channel_kind_is_known", put("channel", kind="pigeon")),
    ("channel_deleted_is_not_enabled", put("channel", deleted_at=NOW)),
    ("notification_without_incident_exactly_when_test", put("notification", incident=None)),
    ("notification_without_incident_exactly_when_test", put("notification", event="incident.test")),
    ("incident_one_unresolved_per_target", lambda rows: rows.make_incident()),
    ("incident_one_unresolved_per_target", lambda rows: _twice_a_component(rows)),
    ("incident_has_exactly_one_of_component_and_milestone", put("incident", milestone=None)),
    ("incident_has_exactly_one_of_component_and_milestone", put("incident", component=Rows.component)),
    ("incident_resolved_at_exactly_when_resolved", put("incident", state="resolved")),
    (
        "incident_resolved_at_exactly_when_resolved",
        put("incident", resolved_at=LATER, resolved_reason="recovered"),
    ),
    ("incident_acknowledged_at_when_acknowledged", put("incident", state="acknowledged")),
    ("incident_not_acknowledged_while_open", put("incident", acknowledged_at=LATER)),
    ("incident_says_why_it_was_resolved", put("incident", **{**RESOLVED, "resolved_reason": ""})),
    ("incident_says_why_it_was_resolved", put("incident", resolved_by="kim@example.com")),
    (
        "incident_merged_into_another_is_resolved",
        put("incident", merged_into=lambda rows: rows.make_incident(milestone="complete")),
    ),
    (
        "incident_merged_into_another_is_resolved",
        put("incident", **RESOLVED, merged_into=lambda rows: rows.incident),
    ),
    ("incident_milestone_is_known", put("incident", milestone="last_token")),
    (
        "incident_resolved_after_it_opened",
        put("incident", **{**RESOLVED, "resolved_at": NOW - timedelta(seconds=1)}),
    ),
    ("incident_reopened_at_exactly_when_reopened", put("incident", reopenings=1)),
    ("incident_reopened_at_exactly_when_reopened", put("incident", reopened_at=LATER)),
    ("incident_severity_is_known", put("incident", severity="disaster")),
    ("incident_state_is_known", put("incident", state="asleep")),
    (
        "incident_event_kind_is_known",
        lambda rows: IncidentEvent.objects.create(incident=rows.incident, kind="sneezed", at=NOW),
    ),
    ("notification_once_per_event_severity_and_occurrence", lambda rows: rows.make_notification()),
    ("notification_finished_at_exactly_when_not_pending", put("notification", finished_at=NOW)),
    ("notification_finished_at_exactly_when_not_pending", put("notification", next_attempt_at=None)),
    (
        "notification_finished_at_exactly_when_not_pending",
        put("notification", **{**DELIVERED, "finished_at": None}),
    ),
    (
        "notification_finished_at_exactly_when_not_pending",
        put("notification", **{**DELIVERED, "next_attempt_at": NOW}),
    ),
    ("notification_state_is_known", put("notification", **{**DELIVERED, "state": "lost"})),
    ("notification_event_is_known", put("notification", event="incident.forgotten")),
    ("notification_severity_is_known", put("notification", severity="disaster")),
    ("notification_leased_only_while_pending", put("notification", **DELIVERED, leased_until=LATER)),
    ("notification_says_why_it_was_given_up", put("notification", **GIVEN_UP)),
    ("notification_says_why_it_was_given_up", put("notification", reason="deadline_passed")),
    (
        "delivery_attempt_number_once",
        lambda rows: DeliveryAttempt.objects.create(notification=rows.notification, number=1, started_at=NOW),
    ),
    ("delivery_attempt_number_from_1", put("attempt", number=0)),
    ("delivery_attempt_outcome_is_known", put("attempt", outcome="perhaps")),
    ("delivery_attempt_says_what_failed", put("attempt", outcome="failed")),
    ("delivery_attempt_says_what_failed", put("attempt", error="The receiver answered 500.")),
    (
        "living_alert_once_per_channel",
        lambda rows: LivingAlert.objects.create(incident=rows.incident, channel=rows.channel, next_at=NOW),
    ),
    ("follow_up_says_what_holds_it", put("follow_up", held_since=NOW)),
    ("follow_up_says_what_holds_it", put("follow_up", held_by="silence 1")),
    ("silence_ends_after_it_starts", put("silence", ends_at=NOW - timedelta(seconds=1))),
    ("silence_has_a_reason", put("silence", reason="")),
    ("silence_matches_something_named", put("silence", matchers=[])),
    ("maintenance_window_name_once_per_team", lambda rows: rows.make_window()),
    ("maintenance_window_has_a_name", put("window", name="")),
    ("maintenance_window_lasts_a_minute_to_a_week", put("window", duration_minutes=0)),
    ("maintenance_window_lasts_a_minute_to_a_week", put("window", duration_minutes=10_081)),
    ("escalation_policy_name_once_per_team", lambda rows: rows.make_policy()),
    ("escalation_policy_has_a_name", put("policy", name="")),
    ("escalation_policy_has_a_step", put("policy", steps=[])),
    ("escalation_policy_at_most_ten_rounds", put("policy", repetitions=10)),
    ("escalation_policy_waits_at_least_5_minutes", put("policy", reminder_minutes=4)),
    ("escalation_policy_waits_at_least_5_minutes", put("policy", unacknowledge_minutes=4)),
    ("schedule_name_once_per_team", lambda rows: rows.make_schedule()),
    ("schedule_has_a_name", put("schedule", name="")),
    ("schedule_turn_is_a_day_to_eight_weeks", put("schedule", turn_days=0)),
    (
        "schedule_turn_position_once",
        lambda rows: ScheduleTurn.objects.create(schedule=rows.schedule, position=0),
    ),
    ("schedule_override_ends_after_it_starts", put("override", ends_at=NOW)),
    ("report_subscription_once", lambda rows: rows.make_subscription()),
    ("report_subscription_period_is_known", put("subscription", period="year")),
    ("report_subscription_has_an_environment", put("subscription", environment="")),
    ("report_subscription_has_a_time_zone", put("subscription", time_zone="")),
    ("report_mail_once_per_period", lambda rows: rows.make_report_mail()),
    ("report_mail_begins_with_its_period", put("report_mail", period="year")),
    ("report_mail_begins_with_its_period", put("report_mail", first_day=date(2026, 11, 17))),
    ("report_mail_begins_with_its_period", put("report_mail", period="month")),
    ("report_mail_state_is_known", put("report_mail", state="lost", finished_at=NOW, next_attempt_at=None)),
    ("report_mail_finished_at_exactly_when_not_pending", put("report_mail", state="sent")),
    ("report_mail_finished_at_exactly_when_not_pending", put("report_mail", finished_at=NOW)),
    (
        "report_mail_leased_only_while_pending",
        put("report_mail", state="sent", finished_at=NOW, next_attempt_at=None, leased_until=LATER),
    ),
    (
        "report_mail_says_why_it_was_given_up",
        put("report_mail", state="given_up", finished_at=NOW, next_attempt_at=None),
    ),
    ("report_mail_says_why_it_was_given_up", put("report_mail", reason="deadline_passed")),
]


def _twice_a_component(rows: Rows) -> None:
    for _ in range(2):
        rows.make_incident(milestone=None, component=rows.component())


@pytest.mark.parametrize(("name", "violate"), VIOLATIONS, ids=[name for name, _ in VIOLATIONS])
def test_the_database_refuses(name: str, violate: Callable[[Rows], Any]) -> None:
    rows = Rows()
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        violate(rows)
    assert refused.value.__cause__.diag.constraint_name == name  # type: ignore[union-attr]


def test_every_constraint_is_broken_here() -> None:
    declared = {
        constraint.name
        for model in apps.get_app_config("alerts").get_models()
        for constraint in model._meta.constraints
    }
    assert declared == {name for name, _ in VIOLATIONS}


def test_a_message_id_is_used_once() -> None:
    rows = Rows()
    message_id = uuid.uuid4()
    rows.make_notification(event="incident.resolved", message_id=message_id)
    with pytest.raises(IntegrityError):
        rows.make_notification(event="incident.acknowledged", message_id=message_id)


def test_what_the_constraints_allow_is_allowed() -> None:
    rows = Rows()
    put("state", **FIRING, severity="page")(rows)
    put("state", status="inactive", active_since=None, severity=None)(rows)
    put("incident", state="acknowledged", acknowledged_at=LATER, acknowledged_by="kim@example.com")(rows)
    put("incident", **RESOLVED)(rows)
    rows.make_incident()
    rows.make_incident(milestone=None, component=rows.component())
    rows.make_incident(milestone=None, component=rows.component("model"))
    rows.make_incident(environment="staging")
    rows.make_notification(severity="page")
    put("notification", **GIVEN_UP, reason="deadline_passed")(rows)
    put("attempt", outcome="failed", error="The receiver answered 500.")(rows)
    assert Feature.objects.count() == 1
    assert Channel.objects.count() == 1
