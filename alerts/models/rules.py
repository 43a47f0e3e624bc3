"""What is watched, and in which state each condition is."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from budgets.models import Feature, Milestone

from .incidents import Severity


class AlertRule(models.Model):
    """One rule of a feature in one environment.

    The default rules (burn rate for each milestone with a latency budget, component overrun for the
    feature) are made by the first evaluation that sees the latency budget. Each kind watches a milestone,
    one component, or every component that has what the kind asks for (an allocation, measurements).
    """

    class Kind(models.TextChoices):
        BURN_RATE = "burn_rate", "Burn rate"
        COMPONENT_OVERRUN = "component_overrun", "Component overrun"
        TIMEOUTS = "timeouts", "Timeouts"
        ERROR_BUDGET = "error_budget", "Error budget"
        THRESHOLD = "threshold", "Static threshold"
        TREND = "trend", "Trend"
        FORECAST = "forecast", "Forecast"
        NO_DATA = "no_data", "No data"
        UNALLOCATED_COMPONENT = "unallocated_component", "Unallocated component"

    feature = models.ForeignKey(Feature, models.CASCADE, related_name="alert_rules")
    name = models.CharField(
        max_length=200, help_text="Once per feature; a default rule's is its kind and milestone"
    )
    environment = models.CharField(max_length=200, default="production")
    kind = models.CharField(max_length=30, choices=Kind)
    # Null and not "": the unique key, the constraints and the series speak of none.
    milestone = models.CharField(max_length=20, choices=Milestone, null=True, blank=True)
    component = models.CharField(
        max_length=200, null=True, blank=True, help_text="By name; empty: every component"
    )
    severity = models.CharField(
        max_length=10, choices=Severity, null=True, blank=True, help_text="Empty: what its kind decides"
    )
    parameters = models.JSONField(default=dict, blank=True, help_text="What the kind asks for, by name")
    is_default = models.BooleanField(default=False, help_text="Made by an evaluation, not by a person")
    is_enabled = models.BooleanField(default=True)
    for_seconds = models.PositiveIntegerField(default=0, help_text="How long it must hold before it fires")
    keep_firing_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="How long it must be over before it clears; empty: ALERT_KEEP_FIRING_SECONDS",
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["feature", "name"], name="alert_rule_name_once_per_feature"),
            models.UniqueConstraint(
                # Two evaluations that find the same default rule missing make it once.
                fields=["feature", "environment", "kind", "milestone"],
                condition=Q(is_default=True),
                nulls_distinct=False,
                name="alert_rule_default_once",
            ),
            models.CheckConstraint(condition=~Q(name=""), name="alert_rule_has_a_name"),
            models.CheckConstraint(condition=~Q(component=""), name="alert_rule_component_is_not_empty"),
            models.CheckConstraint(
                condition=Q(severity=None) | Q(severity__in=["ticket", "page"]),
                name="alert_rule_severity_is_known",
            ),
            models.CheckConstraint(
                condition=Q(milestone=None) | Q(milestone__in=["first_token", "complete"]),
                name="alert_rule_milestone_is_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=["burn_rate", "error_budget", "forecast"],
                    milestone__isnull=False,
                    component=None,
                )
                | Q(kind__in=["component_overrun", "timeouts"], milestone=None)
                | Q(kind="unallocated_component", milestone=None, component=None)
                | Q(kind__in=["threshold", "trend"], milestone__isnull=False, component=None)
                | Q(kind__in=["threshold", "trend"], milestone=None, component__isnull=False)
                # All series of the feature where it names neither.
                | (Q(kind="no_data") & (Q(milestone=None) | Q(component=None))),
                name="alert_rule_target_fits_its_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.feature_id} ({self.environment})"

    @staticmethod
    def default_name(kind: str, milestone: str | None, environment: str) -> str:
        """ "burn_rate first_token", and with its environment where that is not production."""
        name = f"{kind} {milestone}" if milestone else str(kind)
        return name if environment == "production" else f"{name} ({environment})"


class RuleState(models.Model):
    """Where one condition of a rule stands: a tier ("1h/5m", "outage"), a component by name, a threshold ("25").

    A condition that was never active has no row.
    """

    class Status(models.TextChoices):
        INACTIVE = "inactive", "Inactive"
        PENDING = "pending", "Pending"
        FIRING = "firing", "Firing"
        RECOVERING = "recovering", "Recovering"

    rule = models.ForeignKey(AlertRule, models.CASCADE, related_name="states")
    key = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status, default=Status.INACTIVE)
    since = models.DateTimeField(help_text="When it entered this status")
    # What was resolved by hand stays so until each of its conditions has been inactive once; this tells.
    active_since = models.DateTimeField(null=True, help_text="When it left inactive; empty while inactive")
    severity = models.CharField(max_length=10, choices=Severity, null=True)
    reason = models.CharField(max_length=50, help_text="Named reason of the latest decision")
    no_data_since = models.DateTimeField(null=True, help_text="Since when its windows hold no data")
    evidence = models.JSONField(default=dict, help_text="The numbers that decided")
    evaluated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule", "key"], name="rule_state_once"),
            models.CheckConstraint(
                condition=Q(status__in=["inactive", "pending", "firing", "recovering"]),
                name="rule_state_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(status="inactive", active_since=None)
                | (~Q(status="inactive") & Q(active_since__isnull=False)),
                name="rule_state_active_since_exactly_while_active",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["firing", "recovering"])
                | Q(severity__isnull=False, severity__in=["ticket", "page"]),
                name="rule_state_that_fires_has_a_severity",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule_id} {self.key}: {self.status}"
