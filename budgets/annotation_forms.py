"""The form of a note: what happened, when, and where to read more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms

from budgets.annotations import MAX_ENVIRONMENT_CHARACTERS, MAX_URL_CHARACTERS
from budgets.errors import Refusal
from budgets.models import Annotation


class AnnotationForm(forms.Form):
    """A note or a deploy of one feature, marked by a person. `document` is what the API takes."""

    text = forms.CharField(
        label="What happened",
        help_text="One line, e.g. Cache cleared. Charts show its beginning.",
        max_length=Annotation.MAX_TEXT_CHARACTERS,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off"}),
    )
    kind = forms.ChoiceField(
        label="Kind",
        choices=[("note", "Note"), ("deploy", "Deploy")],
        widget=forms.Select(attrs={"class": "input", "autocomplete": "off"}),
    )
    at = forms.DateTimeField(
        label="When, in UTC (optional)",
        help_text="Left empty: now.",
        required=False,
        widget=forms.DateTimeInput(
            format="%Y-%m-%dT%H:%M", attrs={"class": "input", "type": "datetime-local", "autocomplete": "off"}
        ),
        error_messages={"invalid": "Expected a day and a time such as 2026-11-21T20:00."},
    )
    link = forms.CharField(
        label="Link (optional)",
        max_length=MAX_URL_CHARACTERS,
        required=False,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "inputmode": "url"}),
    )
    environment = forms.CharField(max_length=MAX_ENVIRONMENT_CHARACTERS, widget=forms.HiddenInput())

    def document(self, feature: str) -> dict[str, Any]:
        """Of a valid form."""
        typed = self.cleaned_data
        at: datetime | None = typed["at"]
        return {
            "kind": typed["kind"],
            "text": typed["text"],
            "feature": feature,
            "environment": typed["environment"],
            "at": at.astimezone(UTC).isoformat() if at else None,
            "url": typed["link"] or None,
        }

    def add_refusal(self, refusal: Refusal) -> None:
        """Says at each field what the verb said no to."""
        for name, sentences in refusal.fields.items():
            field = "link" if name == "url" else name
            self.add_error(field if field in self.fields else None, sentences)
        if not refusal.fields:
            self.add_error(None, refusal.message)
