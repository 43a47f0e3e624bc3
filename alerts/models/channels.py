"""Where alerts go, and the outbox that gets them there."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from budgets.models import Membership, Team, User

from .incidents import Incident, Severity


class ChannelQuerySet(models.QuerySet["Channel"]):
    def kept(self) -> ChannelQuerySet:
        """Those that were not deleted."""
        return self.filter(deleted_at=None)

    def in_use(self) -> ChannelQuerySet:
        """Those that messages are sent to: switched on, and the team's or of somebody who is still in the team."""
        owners = Membership.objects.filter(
            user=OuterRef("owner"), team=OuterRef("team"), user__is_active=True
        )
        return self.filter(Q(owner=None) | Q(Exists(owners)), is_enabled=True)


class Channel(models.Model):
    """A way to reach a team. Every kind is a module of alerts.channels.

    One that was deleted stays as a row without its secrets, so that what it was sent can still be read.
    """

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "Webhook"
        EMAIL = "email", "Email"
        SLACK = "slack", "Slack"
        PAGERDUTY = "pagerduty", "PagerDuty"
        OPSGENIE = "opsgenie", "Opsgenie"
        TEAMS = "teams", "Microsoft Teams"
        DISCORD = "discord", "Discord"
        TELEGRAM = "telegram", "Telegram"
        ALERTMANAGER = "alertmanager", "Prometheus Alertmanager"
        APPRISE = "apprise", "Apprise"

    team = models.ForeignKey(Team, models.CASCADE, related_name="channels")
    # A person's own channel is used where a schedule or an escalation policy names the person, and never else.
    owner = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="channels")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=20, choices=Kind)
    config = models.JSONField(help_text="What the kind needs, e.g. url and secret")
    min_severity = models.CharField(max_length=10, choices=Severity, default=Severity.TICKET)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = ChannelQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                # The name of a deleted channel is free for another.
                fields=["team", "name"],
                condition=Q(deleted_at=None),
                name="channel_name_once_per_team",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(is_enabled=False), name="channel_deleted_is_not_enabled"
            ),
            models.CheckConstraint(
                condition=Q(min_severity__in=["ticket", "page"]), name="channel_severity_is_known"
            ),
            models.CheckConstraint(condition=~Q(name=""), name="channel_has_a_name"),
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "webhook",
                        "email",
                        "slack",
                        "pagerduty",
                        "opsgenie",
                        "teams",
                        "discord",
                        "telegram",
                        "alertmanager",
                        "apprise",
                    ]
                ),
                name="channel_kind_is_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def protocol(self) -> str:
        """What the status codes of its attempts are of."""
        return "SMTP" if self.kind == Channel.Kind.EMAIL else "HTTP"


class NotificationQuerySet(models.QuerySet["Notification"]):
    def claimable(self, now: datetime) -> NotificationQuerySet:
        """Due, in nobody's hands, and with nothing of its incident before it on the way to its channel."""
        earlier = Notification.objects.filter(
            incident=OuterRef("incident"), channel=OuterRef("channel"), state="pending", pk__lt=OuterRef("pk")
        )
        return self.filter(
            Q(leased_until=None) | Q(leased_until__lte=now),
            ~Exists(earlier),
            state="pending",
            next_attempt_at__lte=now,
        )

    def outdated(self, now: datetime) -> NotificationQuerySet:
        """Not sent yet, in nobody's hands, and nothing that must be heard, where a newer message of the same
        incident waits for the same channel: that one says what is known since."""
        newer = Notification.objects.filter(
            incident=OuterRef("incident"), channel=OuterRef("channel"), state="pending", pk__gt=OuterRef("pk")
        )
        return self.filter(
            Q(leased_until=None) | Q(leased_until__lte=now),
            Exists(newer),
            state="pending",
            event__in=["incident.updated", "incident.repeated", "incident.reminder"],
        )


class Notification(models.Model):
    """One message to one channel: written with the decision, sent by a worker, at least once.

    A test of the channel belongs to no incident and is sent by the request that asks for it, once.
    """

    class Event(models.TextChoices):
        OPENED = "incident.opened", "Opened"
        UPDATED = "incident.updated", "What is known has changed"
        REPEATED = "incident.repeated", "Still open"
        REOPENED = "incident.reopened", "Came back"
        ACKNOWLEDGED = "incident.acknowledged", "Acknowledged"
        REMINDER = "incident.reminder", "Reminder of who has it"
        UNACKNOWLEDGED = "incident.unacknowledged", "Nobody has it any more"
        RESOLVED = "incident.resolved", "Resolved"
        TEST = "incident.test", "Test"

    class State(models.TextChoices):
        PENDING = "pending", "Waiting to be sent"
        DELIVERED = "delivered", "Delivered"
        UNDELIVERABLE = "undeliverable", "Given up"
        SUPERSEDED = "superseded", "Superseded by a newer one"

    incident = models.ForeignKey(Incident, models.CASCADE, null=True, related_name="notifications")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="notifications")
    event = models.CharField(max_length=30, choices=Event)
    severity = models.CharField(
        max_length=10, choices=Severity, help_text="Of the incident when it was written"
    )
    occurrence = models.PositiveIntegerField(default=0, help_text="Counts what is told several times")
    because = models.CharField(
        max_length=300, blank=True, default="", help_text="Why this channel: a policy's step, a schedule"
    )
    # The webhook-id: the same on every retry, so that a receiver can drop a copy.
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    data = models.JSONField(
        help_text="The incident as it was when the message was written, and its story as people are told it"
    )
    state = models.CharField(max_length=15, choices=State, default=State.PENDING)
    created_at = models.DateTimeField()
    attempts_made = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True, help_text="A worker is sending it until then")
    finished_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=50, blank=True, default="", help_text="Why it was given up, by name")

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                # A ticket that becomes a page is told again; everything else once per occurrence.
                fields=["incident", "channel", "event", "severity", "occurrence"],
                name="notification_once_per_event_severity_and_occurrence",
            ),
            models.CheckConstraint(
                condition=Q(state="pending", next_attempt_at__isnull=False, finished_at=None)
                | (~Q(state="pending") & Q(next_attempt_at=None, finished_at__isnull=False)),
                name="notification_finished_at_exactly_when_not_pending",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "delivered", "undeliverable", "superseded"]),
                name="notification_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    event__in=[
                        "incident.opened",
                        "incident.updated",
                        "incident.repeated",
                        "incident.reopened",
                        "incident.acknowledged",
                        "incident.reminder",
                        "incident.unacknowledged",
                        "incident.resolved",
                        "incident.test",
                    ]
                ),
                name="notification_event_is_known",
            ),
            models.CheckConstraint(
                condition=Q(event="incident.test", incident=None)
                | ~Q(event="incident.test") & Q(incident__isnull=False),
                name="notification_without_incident_exactly_when_test",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["ticket", "page"]), name="notification_severity_is_known"
            ),
            models.CheckConstraint(
                condition=Q(leased_until=None) | Q(state="pending"),
                name="notification_leased_only_while_pending",
            ),
            models.CheckConstraint(
                condition=Q(state="undeliverable") & ~Q(reason="") | ~Q(state="undeliverable") & Q(reason=""),
                name="notification_says_why_it_was_given_up",
            ),
        ]
        indexes = [
            # The claim of what is due; finished ones are the many.
            models.Index(fields=["next_attempt_at"], condition=Q(state="pending"), name="notification_due"),
        ]

    def __str__(self) -> str:
        return f"{self.event} of incident {self.incident_id} to {self.channel_id}: {self.state}"

    @property
    def held_by(self) -> str:
        """The silence or maintenance window that holds it back, in words; "" where none does."""
        return str(self.data.get("held_by", "")) if self.state == self.State.PENDING else ""


class DeliveryAttempt(models.Model):
    """One try to deliver a notification, as a person reads it. Written before it is made."""

    class Outcome(models.TextChoices):
        SENDING = "sending", "Under way"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"
        INTERRUPTED = "interrupted", "The worker ended before it knew"

    notification = models.ForeignKey(Notification, models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=15, choices=Outcome, default=Outcome.SENDING)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField(null=True)
    status_code = models.PositiveSmallIntegerField(null=True)
    error = models.TextField(blank=True, default="", help_text="What went wrong, where it failed")
    excerpt = models.TextField(blank=True, default="", help_text="Beginning of the answer")

    class Meta:
        ordering = ["notification_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["notification", "number"], name="delivery_attempt_number_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="delivery_attempt_number_from_1"),
            models.CheckConstraint(
                condition=Q(outcome__in=["sending", "delivered", "failed", "interrupted"]),
                name="delivery_attempt_outcome_is_known",
            ),
            models.CheckConstraint(
                condition=Q(outcome="failed") & ~Q(error="") | ~Q(outcome="failed") & Q(error=""),
                name="delivery_attempt_says_what_failed",
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.notification_id}"


class LivingAlert(models.Model):
    """An incident that a channel forgets unless it is told again and again, as an Alertmanager does.

    Made when the opening has been delivered, gone when the end has. No message is written for a repetition:
    what counts is the latest.
    """

    incident = models.ForeignKey(Incident, models.CASCADE, related_name="+")
    channel = models.ForeignKey(Channel, models.CASCADE, related_name="+")
    next_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, help_text="When it last arrived")
    sent_count = models.PositiveIntegerField(default=0)
    error = models.TextField(
        blank=True, default="", help_text="Why the last try failed; empty where it did not"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["incident", "channel"], name="living_alert_once_per_channel"),
        ]
        indexes = [models.Index(fields=["next_at"], name="living_alert_due")]

    def __str__(self) -> str:
        return f"incident {self.incident_id} in {self.channel_id}"
