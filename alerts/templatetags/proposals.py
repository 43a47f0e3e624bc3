"""Alert rules under numbers that are not saved yet, for the budget editor: budgets never imports alerts."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import timezone

from alerts.contexts.proposals import replay_lines
from budgets.drafts import Draft
from budgets.models import Feature

register = template.Library()


@register.inclusion_tag("alerts/proposal_replay.html")
def proposal_replay(feature: Feature, draft: Draft, environment: str) -> dict[str, Any]:
    """What the feature's burn-rate rules would have told under what is typed, as far as it can be read."""
    document = draft.check().document
    return {"lines": replay_lines(feature, document, environment=environment, now=timezone.now())}
