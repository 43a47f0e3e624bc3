"""What happened to a feature beside its measurements: deploys, notes of people, releases that appeared."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from .features import Feature
from .teams import Team


class AnnotationQuerySet(models.QuerySet["Annotation"]):
    def of_feature(self, feature: Feature, environment: str) -> AnnotationQuerySet:
        """The feature's own and those about all of its team's features."""
        return self.filter(
            Q(feature=feature) | Q(feature=None, team=feature.team_id), environment=environment
        )

    def between(self, start: datetime, end: datetime) -> AnnotationQuerySet:
        """Half-open, as every range."""
        return self.filter(at__gte=start, at__lt=end)


class Annotation(models.Model):
    """Something that happened at an instant and may explain what charts show.

    Without a feature it is about all of the team's. A release has no author: it is made when a value of `release`
    is measured for the first time, and its text is that value.
    """

    class Kind(models.TextChoices):
        DEPLOY = "deploy", "Deploy"
        NOTE = "note", "Note"
        RELEASE = "release", "Release"

    # Short enough that what makes an annotation unique fits into one entry of a btree.
    MAX_TEXT_CHARACTERS = 300

    team = models.ForeignKey(Team, models.CASCADE, db_index=False, related_name="annotations")
    feature = models.ForeignKey(
        Feature, models.CASCADE, null=True, blank=True, db_index=False, related_name="annotations"
    )
    environment = models.CharField(max_length=200)
    at = models.DateTimeField()
    kind = models.CharField(max_length=10, choices=Kind)
    text = models.CharField(max_length=MAX_TEXT_CHARACTERS)
    url = models.URLField(max_length=2000, blank=True, default="")
    author = models.CharField(
        max_length=300, blank=True, default="", help_text="A person or a key; empty for a release"
    )
    created_at = models.DateTimeField(default=timezone.now)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)
    payload_digest = models.BinaryField(
        max_length=32, null=True, help_text="SHA-256 of the body that came under the idempotency key"
    )

    objects = AnnotationQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["deploy", "note", "release"]), name="annotation_kind_is_known"
            ),
            models.CheckConstraint(condition=~Q(text=""), name="annotation_has_a_text"),
            models.CheckConstraint(condition=~Q(environment=""), name="annotation_has_an_environment"),
            models.CheckConstraint(
                condition=Q(url="") | Q(url__iregex=r"^https?://"), name="annotation_url_is_a_web_address"
            ),
            models.CheckConstraint(
                condition=Q(kind="release", author="", feature__isnull=False)
                | (~Q(kind="release") & ~Q(author="")),
                name="annotation_has_an_author_unless_a_release",
            ),
            # What is sent twice is one, whoever sends it.
            models.UniqueConstraint(
                fields=["team", "feature", "environment", "at", "kind", "text"],
                nulls_distinct=False,
                name="annotation_once",
            ),
            models.UniqueConstraint(
                fields=["feature", "environment", "text"],
                condition=Q(kind="release"),
                name="annotation_of_a_release_once",
            ),
            models.UniqueConstraint(
                fields=["team", "idempotency_key"], name="annotation_idempotency_key_once_per_team"
            ),
            models.CheckConstraint(
                condition=Q(idempotency_key=None) | Q(payload_digest__isnull=False),
                name="annotation_with_idempotency_key_keeps_its_digest",
            ),
        ]
        indexes = [
            # Charts and incidents: a feature's, and beside them those of its whole team.
            models.Index(fields=["feature", "environment", "at"], name="annotation_of_feature_by_time"),
            models.Index(
                fields=["team", "environment", "at"],
                condition=Q(feature=None),
                name="annotation_of_team_by_time",
            ),
            # How many a team made within a day.
            models.Index(fields=["team", "created_at"], name="annotation_of_team_by_creation"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}: {self.text}"
