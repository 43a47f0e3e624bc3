"""What was refused, so that the people of a team see why their measurements do not arrive."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from .ingest import IngestKey


class RejectedPayload(models.Model):
    """A POST of which something was rejected, or all of it: the last hundred of each key are kept."""

    key = models.ForeignKey(IngestKey, models.CASCADE, related_name="rejected_payloads")
    received_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(help_text="Of the answer; 200 where the rest was stored")
    code = models.CharField(max_length=60, blank=True, default="", help_text="Why all of it was refused")
    message = models.TextField(blank=True, default="")
    accepted = models.PositiveIntegerField(default=0)
    rejected_count = models.PositiveIntegerField(default=0)
    items = models.JSONField(
        default=list, help_text="The first rejected items: index, in, code, message, and the item as it came"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(code="") | Q(rejected_count__gt=0),
                name="rejected_payload_says_what_was_rejected",
            ),
        ]
        indexes = [
            # The last hundred of a key, newest first.
            models.Index(fields=["key", "-id"], name="rejected_payload_of_key"),
        ]

    def __str__(self) -> str:
        return f"{self.rejected_count} items rejected ({self.status})"
