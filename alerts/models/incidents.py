"""Something a person must look at."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from budgets.models import Component, Feature, Milestone, User


class Severity(models.TextChoices):
    TICKET = "ticket", "Ticket"
    PAGE = "page", "Page"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def visible_to(self, user: User) -> IncidentQuerySet:
        return self if user.is_superuser else self.filter(feature__team__memberships__user=user)

    def unresolved(self) -> IncidentQuerySet:
        return self.exclude(state=Incident.State.RESOLVED)

    def unresolved_at(self, at: datetime) -> IncidentQuerySet:
        """Those that had been opened by then and not resolved, whatever became of them since."""
        return self.filter(models.Q(resolved_at=None) | models.Q(resolved_at__gt=at), opened_at__lte=at)

    def resolved_by_hand_since(self, at: datetime) -> IncidentQuerySet:
        return self.filter(resolved_at__gt=at).exclude(resolved_by="").select_related("component")

    def locked(self) -> IncidentQuerySet:
        """Nobody else takes a step of these until the transaction ends; with what a message reads of them."""
        return self.select_for_update(of=("self",)).select_related("feature", "component").order_by("pk")

    def for_step(self, pk: int) -> Incident:
        """One incident, locked. Raises Incident.DoesNotExist."""
        return self.locked().get(pk=pk)


class Incident(models.Model):
    """One per feature, environment and milestone, or per component, while it is not resolved."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        RESOLVED = "resolved", "Resolved"

    feature = models.ForeignKey(Feature, models.CASCADE, related_name="incidents")
    environment = models.CharField(max_length=200)
    milestone = models.CharField(max_length=20, choices=Milestone, null=True)
    component = models.ForeignKey(Component, models.CASCADE, null=True, related_name="incidents")
    state = models.CharField(max_length=15, choices=State, default=State.OPEN)
    severity = models.CharField(max_length=10, choices=Severity, help_text="The highest it has had")
    rule = models.CharField(max_length=300, help_text="Name of the rule that opened it or raised it")
    summary = models.TextField()
    cause = models.JSONField(null=True, help_text='{"component", "allocated_ms", "observed_ms"}')
    burn_rate = models.FloatField(null=True, help_text="Of the long window of the tier that fired")
    figures = models.JSONField(default=dict, help_text="The numbers behind the summary: wording.Figures")
    attribution = models.JSONField(
        null=True, help_text="How the components share in it, and by what: causes.Attribution"
    )
    changes = models.JSONField(
        default=list, help_text="What changed in the two hours before: [{kind, at, text}], newest first"
    )
    evidence = models.JSONField(
        default=list, help_text="The names of the conditions that hold for it, sorted"
    )
    paging_ended_at = models.DateTimeField(
        null=True,
        help_text="Since when none of a page's conditions would page; empty: one does, or it is a ticket",
    )
    opened_at = models.DateTimeField()
    reopened_at = models.DateTimeField(null=True, help_text="The last time that it came back")
    reopenings = models.PositiveIntegerField(default=0)
    is_flapping = models.BooleanField(default=False)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=300, blank=True, default="", help_text="A person or a key")
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(
        max_length=300,
        blank=True,
        default="",
        help_text="A person or a key; empty where the rules resolved it",
    )
    resolved_reason = models.CharField(max_length=50, blank=True, default="", help_text="Named reason")
    merged_into = models.ForeignKey("self", models.SET_NULL, null=True, related_name="merged")

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["feature", "environment", "milestone", "component"],
                condition=~Q(state="resolved"),
                nulls_distinct=False,
                name="incident_one_unresolved_per_target",
            ),
            models.CheckConstraint(
                condition=Q(component=None, milestone__isnull=False)
                | Q(component__isnull=False, milestone=None),
                name="incident_has_exactly_one_of_component_and_milestone",
            ),
            models.CheckConstraint(
                condition=Q(state="resolved", resolved_at__isnull=False)
                | (~Q(state="resolved") & Q(resolved_at=None)),
                name="incident_resolved_at_exactly_when_resolved",
            ),
            models.CheckConstraint(
                condition=~Q(state="acknowledged") | Q(acknowledged_at__isnull=False),
                name="incident_acknowledged_at_when_acknowledged",
            ),
            models.CheckConstraint(
                condition=~Q(state="open") | Q(acknowledged_at=None),
                name="incident_not_acknowledged_while_open",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None, resolved_by="", resolved_reason="")
                | (Q(resolved_at__isnull=False) & ~Q(resolved_reason="")),
                name="incident_says_why_it_was_resolved",
            ),
            models.CheckConstraint(
                condition=Q(merged_into=None) | (Q(state="resolved") & ~Q(merged_into=F("id"))),
                name="incident_merged_into_another_is_resolved",
            ),
            models.CheckConstraint(
                condition=Q(milestone=None) | Q(milestone__in=["first_token", "complete"]),
                name="incident_milestone_is_known",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None) | Q(resolved_at__gte=F("opened_at")),
                name="incident_resolved_after_it_opened",
            ),
            models.CheckConstraint(
                condition=Q(reopenings=0, reopened_at=None) | Q(reopenings__gte=1, reopened_at__isnull=False),
                name="incident_reopened_at_exactly_when_reopened",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["ticket", "page"]), name="incident_severity_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "acknowledged", "resolved"]), name="incident_state_is_known"
            ),
        ]
        indexes = [
            # The list of what is open, worst and newest first; resolved ones are the many.
            models.Index(fields=["feature", "-opened_at"], name="incident_by_feature"),
            # A target that is in trouble again within half an hour has the same incident again.
            models.Index(fields=["-resolved_at"], name="incident_resolved_lately"),
            # Every evaluation asks what a person resolved within the last half hour.
            models.Index(
                fields=["resolved_at"], condition=~Q(resolved_by=""), name="incident_resolved_by_a_person"
            ),
        ]

    def __str__(self) -> str:
        return f"incident {self.pk}: {self.summary}"

    def get_absolute_url(self) -> str:
        return f"/incidents/{self.pk}/"

    @property
    def public_url(self) -> str:
        return f"{settings.PUBLIC_URL}{self.get_absolute_url()}"


class IncidentEventQuerySet(models.QuerySet["IncidentEvent"]):
    def steps(self) -> IncidentEventQuerySet:
        """What happened to the incident, without what was told of it."""
        return self.exclude(kind=IncidentEvent.Kind.TOLD)


class IncidentEvent(models.Model):
    """One step of an incident: who or what, when, why. Append-only; the events alone rebuild the state."""

    class Kind(models.TextChoices):
        OPENED = "opened", "Opened"
        EVIDENCE = "evidence", "A rule joined or left"
        SEVERITY_RAISED = "severity_raised", "Severity raised"
        CAUSE_CHANGED = "cause_changed", "Cause changed"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        UNACKNOWLEDGED = "unacknowledged", "Nobody has it any more"
        RESOLVED = "resolved", "Resolved"
        REOPENED = "reopened", "Came back"
        FLAPPING = "flapping", "Comes and goes"
        MERGED = "merged", "Merged"
        NOTED = "noted", "Note"
        TOLD = "told", "Who was told"

    incident = models.ForeignKey(Incident, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=20, choices=Kind)
    at = models.DateTimeField()
    actor = models.CharField(
        max_length=300, blank=True, default="", help_text="A person, a key, or empty for a rule"
    )
    reason = models.CharField(max_length=50, blank=True, default="", help_text="Named reason of the decision")
    note = models.TextField(blank=True, default="")
    details = models.JSONField(default=dict)

    objects = IncidentEventQuerySet.as_manager()

    class Meta:
        # By id, which is the order of writing: the row of the incident is locked meanwhile.
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "opened",
                        "evidence",
                        "severity_raised",
                        "cause_changed",
                        "acknowledged",
                        "unacknowledged",
                        "resolved",
                        "reopened",
                        "flapping",
                        "merged",
                        "noted",
                        "told",
                    ]
                ),
                name="incident_event_kind_is_known",
            ),
        ]
        indexes = [models.Index(fields=["incident", "id"], name="incident_event_in_order")]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"
