"""Counters and a histogram of one series over one minute, hour or day (UTC)."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from .ingest import Series


class Rollup(models.Model):
    """What a series did in the interval that begins at `start`.

    - `judged`, `good` and `over` count only what had a limit in force; the rest count everything.
    - `sum_us` and the maximum cover ok and timeout, as percentiles do. The sum is in whole microseconds,
      so that it does not depend on the order of adding.
    - `histogram` holds the ok durations: packed records of bucket index and count (budgets.histogram).
      Timeouts rank above every finite duration, so `min_timeout_ms` and `max_ok_ms` bound what they hide.
    """

    series = models.ForeignKey(
        Series, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    start = models.DateTimeField()
    total = models.IntegerField()
    errors = models.IntegerField()
    timeouts = models.IntegerField()
    judged = models.IntegerField()
    good = models.IntegerField()
    over = models.IntegerField()
    sum_us = models.BigIntegerField()
    max_ms = models.FloatField(null=True)
    max_trace_id = models.UUIDField(null=True, help_text="Exemplar: trace of the slowest")
    max_ok_ms = models.FloatField(null=True)
    min_timeout_ms = models.FloatField(null=True)
    scale = models.SmallIntegerField()
    zero_count = models.IntegerField()
    histogram = models.BinaryField()

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    total__gt=0, errors__gte=0, timeouts__gte=0, total__gte=F("errors") + F("timeouts")
                ),
                name="%(class)s_counts_add_up",
            ),
            models.CheckConstraint(
                condition=Q(judged__in=[0, F("total")]) | Q(judged__gt=0, judged__lte=F("total")),
                name="%(class)s_judged_at_most_total",
            ),
            models.CheckConstraint(
                condition=Q(good__gte=0, over__gte=0, judged__gte=F("good") + F("over")),
                name="%(class)s_good_and_over_at_most_judged",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.series_id} at {self.start}: {self.total}"


class MinuteRollup(Rollup):
    """Daily range partitions by `start`, dropped after the retention."""

    pk = models.CompositePrimaryKey("series_id", "start")

    class Meta(Rollup.Meta):
        db_table = "budgets_rollup_minute"


class HourRollup(Rollup):
    """Derived from minutes. Valid exactly while no DirtyHour names it."""

    pk = models.CompositePrimaryKey("series_id", "start")

    class Meta(Rollup.Meta):
        db_table = "budgets_rollup_hour"
        # Retention reads by start alone; the key begins with the series.
        indexes = [models.Index(fields=["start"], name="rollup_hour_start")]


class DayRollup(Rollup):
    """Derived from hours. Valid exactly while no DirtyDay names it."""

    pk = models.CompositePrimaryKey("series_id", "start")

    class Meta(Rollup.Meta):
        db_table = "budgets_rollup_day"


class DirtyHour(models.Model):
    """An hour whose minutes changed since its rollup was derived: until then it is read from its minutes."""

    pk = models.CompositePrimaryKey("series_id", "start")
    series = models.ForeignKey(
        Series, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    start = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["start"], name="dirty_hour_start")]

    def __str__(self) -> str:
        return f"{self.series_id} at {self.start}"


class DirtyDay(models.Model):
    """A day with hours that changed since its rollup was derived: until then it is read from its hours."""

    pk = models.CompositePrimaryKey("series_id", "start")
    series = models.ForeignKey(
        Series, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    start = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["start"], name="dirty_day_start")]

    def __str__(self) -> str:
        return f"{self.series_id} on {self.start}"


class Sweep(models.Model):
    """When each sweep last finished, for /readyz."""

    name = models.CharField(max_length=50, primary_key=True)
    finished_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.finished_at}"
