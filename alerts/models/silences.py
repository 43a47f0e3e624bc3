"""What holds notifications back, and never hides an incident."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from budgets.models import Team, User


class SilenceQuerySet(models.QuerySet["Silence"]):
    def visible_to(self, user: User) -> SilenceQuerySet:
        return self if user.is_superuser else self.filter(team__memberships__user=user)

    def in_force(self, at: datetime) -> SilenceQuerySet:
        return self.filter(starts_at__lte=at, ends_at__gt=at)

    def not_over(self, at: datetime) -> SilenceQuerySet:
        """In force or coming. One that was ended before it began lasts no time at all."""
        return self.filter(ends_at__gt=at).exclude(starts_at=F("ends_at"))


class Silence(models.Model):
    """No notification about incidents that its matchers fit, from one instant to another.

    Ended early, its end is moved: what was in force then stays readable.
    """

    team = models.ForeignKey(Team, models.CASCADE, related_name="silences")
    matchers = models.JSONField(
        help_text='[{"name": "feature", "operator": "=", "value": "support-chat"}], all must fit'
    )
    reason = models.TextField()
    author = models.CharField(max_length=300, help_text="A person or a key")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    ended_by = models.CharField(
        max_length=300, blank=True, default="", help_text="Who ended it before its time"
    )

    objects = SilenceQuerySet.as_manager()

    class Meta:
        ordering = ["-ends_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gte=F("starts_at")), name="silence_ends_after_it_starts"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="silence_has_a_reason"),
            models.CheckConstraint(condition=~Q(matchers=[]), name="silence_matches_something_named"),
        ]
        indexes = [models.Index(fields=["team", "-ends_at"], name="silence_of_team_by_end")]

    def __str__(self) -> str:
        return f"silence {self.pk} of {self.team_id}: {self.reason}"


class MaintenanceWindow(models.Model):
    """A silence that comes back: by the clock of a time zone, for as long as its duration.

    Its start is a wall clock's, so that 02:00 stays 02:00 when clocks change.
    """

    team = models.ForeignKey(Team, models.CASCADE, related_name="maintenance_windows")
    name = models.CharField(max_length=200)
    matchers = models.JSONField(help_text="As a silence's; empty: every incident of the team")
    reason = models.TextField(blank=True, default="")
    time_zone = models.CharField(max_length=100, help_text="IANA name, e.g. Europe/Berlin")
    starts_on = models.DateField(help_text="Of the first window, in its time zone")
    starts_at = models.TimeField(help_text="Of every window, in its time zone")
    duration_minutes = models.PositiveIntegerField()
    recurrence = models.CharField(
        max_length=500, blank=True, default="", help_text="RRULE of RFC 5545; empty: once"
    )
    is_enabled = models.BooleanField(default=True)
    author = models.CharField(max_length=300, help_text="A person or a key")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], name="maintenance_window_name_once_per_team"),
            models.CheckConstraint(condition=~Q(name=""), name="maintenance_window_has_a_name"),
            models.CheckConstraint(
                condition=Q(duration_minutes__gte=1, duration_minutes__lte=7 * 24 * 60),
                name="maintenance_window_lasts_a_minute_to_a_week",
            ),
        ]

    def __str__(self) -> str:
        return self.name
