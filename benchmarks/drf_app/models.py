"""The baseline's tables: what the product keeps of a measurement, as a Django model."""

from django.db import models


class Key(models.Model):
    digest = models.BinaryField(max_length=32, unique=True)

    def __str__(self) -> str:
        return f"key {self.pk}"


class Series(models.Model):
    feature = models.CharField(max_length=200)
    component = models.CharField(max_length=200, null=True)
    milestone = models.CharField(max_length=20, null=True)
    environment = models.CharField(max_length=200)
    release = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["feature", "component", "milestone", "environment", "release"],
                nulls_distinct=False,
                name="series_once",
            )
        ]

    def __str__(self) -> str:
        return f"series {self.pk}"


class Measurement(models.Model):
    series = models.ForeignKey(Series, models.CASCADE, db_index=False, db_constraint=False)
    ended_at = models.DateTimeField()
    duration_ms = models.FloatField()
    status = models.SmallIntegerField()
    trace_id = models.UUIDField(null=True)
    span_id = models.BigIntegerField(null=True)
    parent_span_id = models.BigIntegerField(null=True)
    labels = models.JSONField(null=True)

    def __str__(self) -> str:
        return f"measurement {self.pk}"
