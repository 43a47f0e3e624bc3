"""What services send: keys, batches, series, raw measurements and spans."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .features import Component, Feature, Milestone
from .teams import Team


class Status(models.IntegerChoices):
    """How a measured request or component ended. Stored as a small integer, sent as its name."""

    OK = 0, "ok"
    ERROR = 1, "error"
    TIMEOUT = 2, "timeout"


class IngestKey(models.Model):
    """A team's bearer key: `ld_<prefix>_<secret>`, of which only an HMAC of the secret is kept."""

    class Scope(models.TextChoices):
        INGEST = "ingest", "Send measurements"
        READ = "read", "Read"
        WRITE = "write", "Declare features and channels, act on incidents"

    team = models.ForeignKey(Team, models.CASCADE, related_name="ingest_keys")
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=8, unique=True)
    digest = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=10))
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(scopes__contained_by=["ingest", "read", "write"]) & ~Q(scopes=[]),
                name="ingest_key_scopes_are_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} (ld_{self.prefix}_…)"

    def is_usable(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class Batch(models.Model):
    """The measurements of one accepted POST, stored in the same transaction as they are."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting to be rolled up"
        ROLLED_UP = "rolled_up", "Rolled up"
        FAILED = "failed", "Set aside: it cannot be rolled up"
        DISCARDING = "discarding", "Being discarded"
        DISCARDED = "discarded", "Discarded"

    LIVE_STATES = (State.PENDING, State.ROLLED_UP, State.FAILED)
    """Of what is stored and was not discarded."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="batches")
    key = models.ForeignKey(IngestKey, models.SET_NULL, null=True, related_name="batches")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    received_at = models.DateTimeField()
    rolled_up_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    failure = models.TextField(null=True, help_text="Why it cannot be rolled up")
    discarded_at = models.DateTimeField(null=True, help_text="When its measurements were deleted")
    measurement_count = models.PositiveIntegerField()
    ended_from = models.DateTimeField(help_text="Earliest ended_at in it")
    ended_to = models.DateTimeField(help_text="Latest ended_at in it, inclusive")
    request_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="Id of the request that it came with",
    )
    idempotency_key = models.CharField(max_length=255, null=True)
    payload_digest = models.BinaryField(max_length=32, null=True, help_text="SHA-256 of the inflated body")
    answer = models.JSONField(
        null=True, help_text="What was answered, for a replay under the idempotency key"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "idempotency_key"], name="batch_idempotency_key_once_per_team"
            ),
            models.CheckConstraint(condition=Q(measurement_count__gt=0), name="batch_is_not_empty"),
            models.CheckConstraint(condition=Q(ended_from__lte=F("ended_to")), name="batch_range_is_ordered"),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "failed"], rolled_up_at=None)
                | Q(state="rolled_up", rolled_up_at__isnull=False)
                | Q(state__in=["discarding", "discarded"]),  # whether it had been is still told
                name="batch_rolled_up_at_exactly_when_rolled_up",
            ),
            models.CheckConstraint(
                condition=Q(state="discarded", discarded_at__isnull=False)
                | (~Q(state="discarded") & Q(discarded_at=None)),
                name="batch_discarded_at_exactly_when_discarded",
            ),
            models.CheckConstraint(
                condition=Q(state="failed", failed_at__isnull=False, failure__isnull=False)
                | (~Q(state="failed") & Q(failed_at=None, failure=None)),
                name="batch_says_when_and_why_exactly_when_failed",
            ),
            models.CheckConstraint(
                condition=Q(idempotency_key=None) | Q(payload_digest__isnull=False, answer__isnull=False),
                name="batch_with_idempotency_key_keeps_its_answer",
            ),
        ]
        indexes = [
            # The worker's claim, and a team's backlog: only what is pending, so it stays small.
            models.Index(
                fields=["id"],
                include=["team", "measurement_count"],
                condition=Q(state="pending"),
                name="batch_pending",
            ),
            # What a rebuild leaves out, and what /readyz counts.
            models.Index(fields=["id"], condition=Q(state="failed"), name="batch_failed"),
            models.Index(fields=["id"], condition=Q(state="discarding"), name="batch_discarding"),
            models.Index(fields=["received_at"], name="batch_received_at"),
        ]

    def __str__(self) -> str:
        return f"batch {self.pk} ({self.measurement_count}, {self.state})"

    @property
    def is_discarded(self) -> bool:
        """Whether it counts nowhere any more, or is about not to."""
        return self.state in (self.State.DISCARDING, self.State.DISCARDED)


class SeriesQuerySet(models.QuerySet["Series"]):
    def ids_of(
        self, feature: Feature, target: str, *, environment: str, release: str | None = None
    ) -> list[int]:
        """Those of "milestone:<name>" or "component:<name>", of all its releases or of one."""
        kind, _, name = target.partition(":")
        found = self.filter(feature=feature, environment=environment)
        found = found.filter(component__name=name) if kind == "component" else found.filter(milestone=name)
        if release is not None:
            found = found.filter(release=release)
        return list(found.values_list("pk", flat=True))


class Series(models.Model):
    """A feature's component or milestone in one environment and release."""

    id = models.AutoField(primary_key=True)  # four bytes: it stands in every measurement
    feature = models.ForeignKey(Feature, models.CASCADE, related_name="series")
    component = models.ForeignKey(Component, models.CASCADE, null=True, related_name="series")
    milestone = models.CharField(max_length=20, choices=Milestone, null=True)
    environment = models.CharField(max_length=200)
    release = models.CharField(max_length=200, blank=True, default="")
    last_seen_on = models.DateField(
        help_text="UTC day of the latest receipt; the limit on series counts 14 days"
    )

    objects = SeriesQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "series"
        constraints = [
            models.UniqueConstraint(
                fields=["feature", "environment", "component", "milestone", "release"],
                nulls_distinct=False,
                name="series_once",
            ),
            models.CheckConstraint(
                condition=Q(component=None, milestone__isnull=False)
                | Q(component__isnull=False, milestone=None),
                name="series_has_exactly_one_of_component_and_milestone",
            ),
            models.CheckConstraint(
                condition=Q(milestone=None) | Q(milestone__in=["first_token", "complete"]),
                name="series_milestone_is_known",
            ),
            models.CheckConstraint(condition=~Q(environment=""), name="series_has_an_environment"),
        ]

    def __str__(self) -> str:
        return f"series {self.pk}"


class Measurement(models.Model):
    """The time one component took in one request, or at which one milestone was reached.

    A table of daily range partitions by `ended_at`, written by COPY only: no id, and no foreign-key
    triggers. The composite key is Django's alone and is not unique in the database.
    """

    pk = models.CompositePrimaryKey("series_id", "ended_at", "batch_id")
    series = models.ForeignKey(
        Series, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    ended_at = models.DateTimeField()
    duration_ms = models.FloatField()
    status = models.SmallIntegerField(choices=Status)
    batch = models.ForeignKey(Batch, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    trace_id = models.UUIDField(null=True)
    span_id = models.BigIntegerField(
        null=True, help_text="16 hex digits, read as a signed big-endian integer"
    )
    parent_span_id = models.BigIntegerField(null=True)
    labels = models.JSONField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(duration_ms__gte=0) & Q(duration_ms__lte=604_800_000),
                name="measurement_duration_between_0_and_7_days",
            ),
            models.CheckConstraint(condition=Q(status__in=[0, 1, 2]), name="measurement_status_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.series_id}: {self.duration_ms} ms at {self.ended_at}"

    @property
    def started_at(self) -> datetime:
        return self.ended_at - timedelta(milliseconds=self.duration_ms)


class Span(models.Model):
    """One of several calls of a component within a request, of which the measurement is the union.

    Kept for the waterfall; never counted. Daily range partitions by `ended_at`, like measurements.
    """

    pk = models.CompositePrimaryKey("trace_id", "ended_at", "series_id", "batch_id")
    series = models.ForeignKey(
        Series, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    ended_at = models.DateTimeField()
    duration_ms = models.FloatField()
    status = models.SmallIntegerField(choices=Status)
    batch = models.ForeignKey(Batch, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    trace_id = models.UUIDField(help_text="A request without one keeps no spans: nothing could find them")
    span_id = models.BigIntegerField(null=True)
    parent_span_id = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(duration_ms__gte=0) & Q(duration_ms__lte=604_800_000),
                name="span_duration_between_0_and_7_days",
            ),
            models.CheckConstraint(condition=Q(status__in=[0, 1, 2]), name="span_status_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.series_id}: {self.duration_ms} ms at {self.ended_at}"
