"""Who changed what. Rows are added and never changed: a trigger of the database refuses it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from .teams import Team, User


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def visible_to(self, user: User) -> AuditEntryQuerySet:
        """What happened in the person's teams; a superuser sees what belongs to no team, too."""
        return self if user.is_superuser else self.filter(team__memberships__user=user)


class AuditEntry(models.Model):
    """One change: by whom, of what, and what it was before and is after.

    `before` is null for what was made, `after` for what is gone. Neither ever holds a secret.
    """

    # Without constraints and keys of people: an entry outlives the team and the account that it names.
    team = models.ForeignKey(
        Team, models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="+"
    )
    at = models.DateTimeField()
    actor = models.CharField(max_length=300, help_text="An e-mail address, a key or a command")
    action = models.CharField(max_length=60, help_text="As noun and verb, e.g. feature.declared")
    subject = models.CharField(max_length=450, help_text="What was changed, by the name that people know")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, blank=True, default="")

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit log"
        constraints = [
            models.CheckConstraint(condition=~Q(actor=""), name="audit_entry_has_an_actor"),
            models.CheckConstraint(
                condition=Q(action__regex=r"^[a-z_]+\.[a-z_]+$"), name="audit_entry_action_is_noun_and_verb"
            ),
        ]
        indexes = [
            # A team's page of the log, newest first.
            models.Index(fields=["team", "-id"], name="audit_entry_of_team"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject} by {self.actor}"
