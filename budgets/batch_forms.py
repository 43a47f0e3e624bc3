"""Forms about what a team's services sent: which batches, and why they are discarded."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet

from budgets.discard import MAX_REASON_CHARACTERS
from budgets.models import Batch, IngestKey, Team


def _instant_input() -> forms.DateTimeInput:
    return forms.DateTimeInput(
        format="%Y-%m-%dT%H:%M:%S", attrs={"class": "input", "type": "datetime-local", "step": 1}
    )


class BatchFilterForm(forms.Form):
    """Which of a team's batches: by key, by when they were received (UTC), by state, or one by its number."""

    key = forms.ModelChoiceField(
        IngestKey.objects.none(),
        to_field_name="prefix",
        required=False,
        empty_label="Every key",
        widget=forms.Select(attrs={"class": "input"}),
    )
    received_from = forms.DateTimeField(
        label="Received from (UTC)",
        required=False,
        widget=_instant_input(),
    )
    received_to = forms.DateTimeField(
        label="and before (UTC)",
        required=False,
        widget=_instant_input(),
    )
    state = forms.ChoiceField(
        choices=[("", "Every state"), *Batch.State.choices],
        required=False,
        widget=forms.Select(attrs={"class": "input"}),
    )
    batch = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1, widget=forms.HiddenInput())

    def __init__(self, team: Team, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["key"].queryset = team.ingest_keys.order_by("name", "pk")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("received_from"), cleaned.get("received_to")
        if first and last and last <= first:
            self.add_error("received_to", "The end must come after the beginning.")
        return cleaned

    @property
    def is_range(self) -> bool:
        """Whether a valid form names few enough to discard: one batch, or a key's between two instants."""
        chosen = self.cleaned_data
        is_bounded = chosen.get("key") and chosen.get("received_from") and chosen.get("received_to")
        return bool(chosen.get("batch") or is_bounded)

    def narrow(self, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        """Those of the batches that a valid form asks for."""
        chosen = self.cleaned_data
        lookups = {
            "pk": chosen.get("batch"),
            "key": chosen.get("key"),
            "received_at__gte": chosen.get("received_from"),
            "received_at__lt": chosen.get("received_to"),
            "state": chosen.get("state"),
        }
        return batches.filter(**{lookup: value for lookup, value in lookups.items() if value})


class DiscardForm(forms.Form):
    """Why batches are discarded; the audit log keeps it."""

    reason = forms.CharField(
        label="Why",
        max_length=MAX_REASON_CHARACTERS,
        help_text="For example: the service sent seconds as milliseconds. The audit log keeps it.",
        widget=forms.Textarea(attrs={"class": "input", "rows": 3}),
    )
