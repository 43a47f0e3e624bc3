"""Features, their components, and the versions of their latency budgets."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db import models
from django.db.models import Func, Q, Value
from django.utils import timezone

from .teams import Team, User


class Milestone(models.TextChoices):
    """A moment on the user's stopwatch, in the order in which a request reaches them."""

    FIRST_TOKEN = "first_token", "First token"
    COMPLETE = "complete", "Complete"


class FeatureQuerySet(models.QuerySet["Feature"]):
    def visible_to(self, user: User) -> FeatureQuerySet:
        return self if user.is_superuser else self.filter(team__memberships__user=user)

    def active(self) -> FeatureQuerySet:
        return self.filter(archived_at=None)


class Feature(models.Model):
    """A user-facing flow that must answer in time."""

    class Kind(models.TextChoices):
        INTERACTIVE_CHAT = "interactive_chat", "Interactive chat"
        INLINE_HELP = "inline_help", "Inline help"
        BACKGROUND_GENERATION = "background_generation", "Background generation"
        AUTONOMOUS_WORKFLOW = "autonomous_workflow", "Autonomous workflow"
        OTHER = "other", "Other"

    team = models.ForeignKey(Team, models.PROTECT, related_name="features")
    slug = models.SlugField(max_length=200, unique=True)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=30, choices=Kind, default=Kind.OTHER)
    description = models.TextField(blank=True, default="")
    runbook_url = models.URLField(max_length=2000, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    archived_at = models.DateTimeField(null=True, blank=True)
    rejudge_requested_at = models.DateTimeField(
        null=True, blank=True, help_text="A first version was saved: what is stored is to be judged anew"
    )

    objects = FeatureQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "interactive_chat",
                        "inline_help",
                        "background_generation",
                        "autonomous_workflow",
                        "other",
                    ]
                ),
                name="feature_kind_is_known",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    def get_absolute_url(self) -> str:
        return f"/features/{self.slug}/"

    @property
    def is_archived(self) -> bool:
        return self.archived_at is not None


class Component(models.Model):
    """A part of a feature's path."""

    class State(models.TextChoices):
        DECLARED = "declared", "Declared"
        OBSERVED = "observed", "Measured, never declared"
        ARCHIVED = "archived", "No longer declared"

    feature = models.ForeignKey(Feature, models.CASCADE, related_name="components")
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State)
    position = models.PositiveSmallIntegerField(default=0, help_text="Order in which the document lists it")

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["feature", "name"], name="component_once_per_feature"),
            models.CheckConstraint(
                condition=Q(state__in=["declared", "observed", "archived"]), name="component_state_is_known"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="component_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name


class LatencyBudgetQuerySet(models.QuerySet["LatencyBudget"]):
    def in_force(self, at: datetime) -> LatencyBudgetQuerySet:
        """The version of each milestone in force at an instant, retired milestones left out."""
        return (
            self.filter(Q(version=1) | Q(effective_from__lte=at))
            .order_by("feature_id", "milestone", "-version")
            .distinct("feature_id", "milestone")
        )


class LatencyBudget(models.Model):
    """One version of how long a milestone may take. Never edited; a change is a new version.

    Version 1 has been in force always; a later one from `effective_from`, which is a whole minute.
    A version without values retires the milestone.
    """

    feature = models.ForeignKey(Feature, models.CASCADE, related_name="latency_budgets")
    milestone = models.CharField(max_length=20, choices=Milestone)
    version = models.PositiveIntegerField()
    budget_ms = models.DecimalField(max_digits=12, decimal_places=3, null=True)
    objective = models.DecimalField(max_digits=7, decimal_places=6, null=True)
    window_days = models.PositiveSmallIntegerField(null=True)
    note = models.TextField(blank=True, default="")
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=300, blank=True, default="", help_text="Who: an e-mail or a key")

    objects = LatencyBudgetQuerySet.as_manager()

    class Meta:
        ordering = ["feature_id", "milestone", "version"]
        constraints = [
            models.UniqueConstraint(
                fields=["feature", "milestone", "version"], name="latency_budget_version_once"
            ),
            models.CheckConstraint(
                condition=Q(milestone__in=["first_token", "complete"]),
                name="latency_budget_milestone_is_known",
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="latency_budget_version_from_1"),
            models.CheckConstraint(condition=Q(budget_ms__gt=0), name="latency_budget_is_positive"),
            models.CheckConstraint(
                condition=Q(objective__gt=0) & Q(objective__lt=1),
                name="latency_budget_objective_between_0_and_1",
            ),
            models.CheckConstraint(
                condition=Q(window_days__in=[7, 28, 30]), name="latency_budget_window_is_known"
            ),
            models.CheckConstraint(
                condition=Q(budget_ms=None, objective=None, window_days=None)
                | Q(budget_ms__isnull=False, objective__isnull=False, window_days__isnull=False),
                name="latency_budget_has_all_values_or_is_retired",
            ),
            models.CheckConstraint(
                # Not `effective_from__second=0`, which half a second passes.
                condition=Q(
                    effective_from=Func(
                        Value("minute"), "effective_from", Value("UTC"), function="date_trunc"
                    )
                ),
                name="latency_budget_effective_from_a_whole_minute",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.feature_id} {self.milestone} v{self.version}"

    @property
    def is_retired(self) -> bool:
        return self.budget_ms is None

    @property
    def allocated_ms(self) -> Decimal:
        return sum((a.allocated_ms for a in self.allocations.all()), Decimal(0))


class Allocation(models.Model):
    """A component's share of one version of a latency budget."""

    latency_budget = models.ForeignKey(LatencyBudget, models.CASCADE, related_name="allocations")
    component = models.ForeignKey(Component, models.PROTECT, related_name="allocations")
    allocated_ms = models.DecimalField(max_digits=12, decimal_places=3)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["latency_budget", "component"], name="allocation_once_per_component"
            ),
            models.CheckConstraint(condition=Q(allocated_ms__gt=0), name="allocation_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.component_id}: {self.allocated_ms} ms"
