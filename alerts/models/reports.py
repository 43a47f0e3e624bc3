"""Who gets a team's reports by mail, and the mails that carry them."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from budgets.models import Membership, Team, User


class ReportPeriod(models.TextChoices):
    WEEK = "week", "Weekly"
    MONTH = "month", "Monthly"


class ReportSubscription(models.Model):
    """A member gets the team's report by mail, every week or every month.

    It belongs to the membership: whoever leaves the team gets no more.
    """

    membership = models.ForeignKey(Membership, models.CASCADE, related_name="report_subscriptions")
    period = models.CharField(max_length=10, choices=ReportPeriod)
    environment = models.CharField(max_length=200, default="production")
    time_zone = models.CharField(max_length=100, help_text="IANA name, e.g. Europe/Berlin")
    due_at = models.DateTimeField(help_text="When the next report is mailed")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["membership", "period"], name="report_subscription_once"),
            models.CheckConstraint(
                condition=Q(period__in=["week", "month"]), name="report_subscription_period_is_known"
            ),
            models.CheckConstraint(
                condition=~Q(environment=""), name="report_subscription_has_an_environment"
            ),
            models.CheckConstraint(condition=~Q(time_zone=""), name="report_subscription_has_a_time_zone"),
        ]
        indexes = [
            # What every sweep looks for.
            models.Index(fields=["due_at"], name="report_subscription_due"),
        ]

    def __str__(self) -> str:
        return f"{self.period} of membership {self.membership_id}"


class ReportMailQuerySet(models.QuerySet["ReportMail"]):
    def claimable(self, now: datetime) -> ReportMailQuerySet:
        """Due, and in no worker's hands."""
        return self.filter(
            Q(leased_until=None) | Q(leased_until__lte=now), state="pending", next_attempt_at__lte=now
        )


class ReportMail(models.Model):
    """A report that somebody gets: one row a person, team and period, written before it is sent.

    What it says is made when it is sent, from the rollups of then.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Waiting to be sent"
        SENT = "sent", "Sent"
        GIVEN_UP = "given_up", "Given up"

    user = models.ForeignKey(User, models.CASCADE, related_name="report_mails")
    team = models.ForeignKey(Team, models.CASCADE, related_name="report_mails")
    period = models.CharField(max_length=10, choices=ReportPeriod)
    first_day = models.DateField(help_text="Of the week or month, in its time zone")
    environment = models.CharField(max_length=200)
    time_zone = models.CharField(max_length=100)
    # The Message-ID: the same at every try, so that a mail server can drop a copy.
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    created_at = models.DateTimeField()
    attempts_made = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True, help_text="A worker is sending it until then")
    finished_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=50, blank=True, default="", help_text="Why it was given up, by name")
    error = models.TextField(blank=True, default="", help_text="What went wrong at the last try")

    objects = ReportMailQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "team", "period", "first_day"], name="report_mail_once_per_period"
            ),
            models.CheckConstraint(
                # ISO weeks begin on Monday, which Django counts as 2.
                condition=Q(period="week", first_day__week_day=2) | Q(period="month", first_day__day=1),
                name="report_mail_begins_with_its_period",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "sent", "given_up"]), name="report_mail_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(state="pending", next_attempt_at__isnull=False, finished_at=None)
                | ~Q(state="pending") & Q(next_attempt_at=None, finished_at__isnull=False),
                name="report_mail_finished_at_exactly_when_not_pending",
            ),
            models.CheckConstraint(
                condition=Q(leased_until=None) | Q(state="pending"),
                name="report_mail_leased_only_while_pending",
            ),
            models.CheckConstraint(
                condition=Q(state="given_up") & ~Q(reason="") | ~Q(state="given_up") & Q(reason=""),
                name="report_mail_says_why_it_was_given_up",
            ),
        ]
        indexes = [
            # The claim of what is due; finished ones are the many.
            models.Index(fields=["next_attempt_at"], condition=Q(state="pending"), name="report_mail_due"),
            # What is forgotten by and by.
            models.Index(fields=["created_at"], name="report_mail_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.period} from {self.first_day} to {self.user_id}: {self.state}"
