"""Who is told when, and by whose watch: escalation policies and on-call schedules."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from budgets.models import Team, User

from .incidents import Incident


class EscalationPolicy(models.Model):
    """Whom an incident goes to, step after step, until somebody acknowledges it.

    Of a team's policies, in the order of their positions, the first whose matchers fit an incident is frozen
    into it when it opens. Where none fits, every channel of the team hears of it at once.
    """

    team = models.ForeignKey(Team, models.CASCADE, related_name="escalation_policies")
    name = models.CharField(max_length=200)
    position = models.PositiveIntegerField(default=0)
    matchers = models.JSONField(default=list, blank=True, help_text="As a silence's; empty: every incident")
    steps = models.JSONField(
        help_text='[{"notify": [{"kind": "channel" | "schedule" | "person", "name": …}], "wait_minutes": 5}, …]'
    )
    repetitions = models.PositiveIntegerField(
        default=0, help_text="How often the steps begin anew after the last"
    )
    reminder_minutes = models.PositiveIntegerField(
        null=True,
        blank=True,
        default=60,
        help_text="From one reminder of who acknowledged to the next; empty: none",
    )
    unacknowledge_minutes = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="After so long without a word from who acknowledged, nobody has it any more; empty: never",
    )
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], name="escalation_policy_name_once_per_team"),
            models.CheckConstraint(condition=~Q(name=""), name="escalation_policy_has_a_name"),
            models.CheckConstraint(condition=~Q(steps=[]), name="escalation_policy_has_a_step"),
            models.CheckConstraint(
                condition=Q(repetitions__lte=9), name="escalation_policy_at_most_ten_rounds"
            ),
            models.CheckConstraint(
                condition=(Q(reminder_minutes=None) | Q(reminder_minutes__gte=5))
                & (Q(unacknowledge_minutes=None) | Q(unacknowledge_minutes__gte=5)),
                name="escalation_policy_waits_at_least_5_minutes",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Schedule(models.Model):
    """Who is on call when: turns that hand over by the clock of a time zone, and overrides."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=200)
    time_zone = models.CharField(max_length=100, help_text="IANA name, e.g. Europe/Berlin")
    starts_on = models.DateField(help_text="The day of the first hand-over, in its time zone; nobody before")
    hands_over_at = models.TimeField(help_text="The time of day of every hand-over, in its time zone")
    turn_days = models.PositiveSmallIntegerField(default=7, help_text="From one hand-over to the next")
    hours = models.JSONField(
        default=list,
        blank=True,
        help_text='[{"days": ["mon", …], "from": "09:00", "to": "17:00"}, …]; empty: around the clock',
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["team", "name"], name="schedule_name_once_per_team"),
            models.CheckConstraint(condition=~Q(name=""), name="schedule_has_a_name"),
            models.CheckConstraint(
                condition=Q(turn_days__gte=1, turn_days__lte=56), name="schedule_turn_is_a_day_to_eight_weeks"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ScheduleTurn(models.Model):
    """A place in a schedule's rotation; a person may have several. Without a person it is a gap."""

    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="turns")
    position = models.PositiveSmallIntegerField()
    person = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "position"], name="schedule_turn_position_once")
        ]

    def __str__(self) -> str:
        return f"turn {self.position} of {self.schedule_id}"


class ScheduleOverride(models.Model):
    """Somebody else, or nobody, for a while. Of several at once the one that was made last holds."""

    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="overrides")
    person = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    author = models.CharField(max_length=300, help_text="A person or a key")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")), name="schedule_override_ends_after_it_starts"
            )
        ]
        indexes = [models.Index(fields=["schedule", "ends_at"], name="schedule_override_by_end")]

    def __str__(self) -> str:
        return f"override {self.pk} of {self.schedule_id}"


class FollowUp(models.Model):
    """What is still to be said of an incident, and when: its policy as it was when the incident opened, how far
    that has come, and what was held back. One row per incident, made with it; the clock of everything that
    happens to an incident without any rule or person moving it."""

    incident = models.OneToOneField(Incident, models.CASCADE, primary_key=True, related_name="follow_up")
    policy = models.JSONField(
        null=True, help_text="The frozen escalation policy; empty: all channels at once"
    )
    step = models.PositiveSmallIntegerField(default=0, help_text="The next step of the policy, from 0")
    round = models.PositiveSmallIntegerField(default=0, help_text="How often the steps were begun, from 0")
    next_step_at = models.DateTimeField(null=True, help_text="Empty: no step is to come")
    began_at = models.DateTimeField(
        null=True,
        help_text="When it last opened, came back, became a page or lost who had it: to be told anew",
    )
    told_at = models.DateTimeField(null=True, help_text="When anybody was last told anything")
    news_at = models.DateTimeField(null=True, help_text="Since when something is known that nobody was told")
    held_since = models.DateTimeField(null=True, help_text="Since when a message is held back")
    held_by = models.CharField(
        max_length=300, blank=True, default="", help_text="The silence or maintenance window"
    )
    heard_at = models.DateTimeField(null=True, help_text="When who acknowledged it last said something")
    cause_sought_at = models.DateTimeField(
        null=True, help_text="When its cause was last looked for in the requests; empty: when it opened"
    )
    next_at = models.DateTimeField(
        null=True, help_text="When it is to be looked at next; empty: when something happens to it"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(held_since=None, held_by="") | (Q(held_since__isnull=False) & ~Q(held_by="")),
                name="follow_up_says_what_holds_it",
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="follow_up_due"),
        ]

    def __str__(self) -> str:
        return f"follow-up of incident {self.incident_id}"
