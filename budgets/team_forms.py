"""Forms of a team's pages: its keys and its people."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.text import slugify

from budgets.errors import Refusal
from budgets.models import IngestKey, Membership

# What a scope allows, a line each, as the form says it.
SCOPE_LINES = {
    IngestKey.Scope.INGEST: "ingest: send measurements, mark deploys. All that a service or a deploying job needs.",
    IngestKey.Scope.READ: "read: read features, status, time series, incidents and channels.",
    IngestKey.Scope.WRITE: "write: declare features, channels, silences and schedules, act on incidents.",
}
ROLE_LINES = {
    Membership.Role.VIEWER: "Viewer: looks",
    Membership.Role.EDITOR: "Editor: also changes budgets and channels, acts on incidents",
    Membership.Role.ADMIN: "Admin: also people and keys",
}


class RefusableForm(forms.Form):
    """A form whose verb may still say no: the refusal stands at the fields that it names."""

    def add_refusal(self, refusal: Refusal) -> None:
        said_at_fields = {name: told for name, told in refusal.fields.items() if name in self.fields}
        for name, sentences in said_at_fields.items():
            self.add_error(name, sentences)
        if not said_at_fields:
            self.add_error(None, refusal.message)


def _text(label: str, *, hint: str = "", length: int = 200, **attributes: Any) -> forms.CharField:
    attrs = {"class": "input", "autocomplete": "off", **attributes}
    return forms.CharField(
        label=label, help_text=hint, max_length=length, widget=forms.TextInput(attrs=attrs)
    )


class KeyForm(RefusableForm):
    """A new key: what it is for, what it may, and until when."""

    name = _text("Name", hint="What uses it, e.g. chat backend: this is how people know what to revoke.")
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=list(SCOPE_LINES.items()),
        initial=[IngestKey.Scope.INGEST],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one scope."},
    )
    last_day = forms.DateField(
        label="Last day (optional)",
        required=False,
        help_text="The key works to the end of this day in UTC. Left empty, until somebody revokes it.",
        widget=forms.DateInput(attrs={"class": "input", "type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": "Expected a day such as 2027-01-31."},
    )

    def clean_last_day(self) -> Any:
        day = self.cleaned_data["last_day"]
        today = timezone.now().date()
        if day is not None and not today <= day <= today.replace(year=today.year + 100, day=1):
            raise forms.ValidationError(
                f"Expected today, {today:%Y-%m-%d}, or a later day; got {day:%Y-%m-%d}."
            )
        return day

    @property
    def expires_at(self) -> datetime | None:
        """The end of the last day."""
        day = self.cleaned_data["last_day"]
        return None if day is None else datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)


class FirstKeyForm(RefusableForm):
    """A key that may send measurements and nothing else: what it is for."""

    name = _text("Name of the key", hint="What uses it: this is how people know what to revoke.")


class InvitationForm(RefusableForm):
    """Whom to invite, and as what."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"class": "input", "autocomplete": "off"}),
        error_messages={"invalid": "Expected an e-mail address such as ada@example.com."},
    )
    role = forms.ChoiceField(
        label="Role",
        choices=list(ROLE_LINES.items()),
        initial=Membership.Role.VIEWER,
        widget=forms.Select(attrs={"class": "input"}),
    )


class TimeZoneForm(RefusableForm):
    """By whose clock messages tell a team when something was."""

    time_zone = forms.CharField(
        label="Time zone",
        max_length=100,
        help_text="Mails and chat messages about incidents tell times by it. Pages follow their readers.",
        widget=forms.TextInput(
            attrs={"class": "input", "autocomplete": "off", "list": "time-zones", "spellcheck": "false"}
        ),
    )


class TeamForm(RefusableForm):
    """A new team. Its name in addresses is proposed from its name."""

    name = _text("Name", hint="e.g. On-call engineering")
    slug = forms.CharField(
        label="Name in addresses",
        required=False,
        max_length=200,
        help_text="Small letters, digits and hyphens; left empty, it is made from the name. It stays as it is.",
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "data-slug-of": "id_name"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("name") and not cleaned.get("slug"):
            cleaned["slug"] = slugify(cleaned["name"])[:200].strip("-")
        return cleaned


class AuditFilterForm(forms.Form):
    """Which entries of the audit log; every field stands in the URL."""

    action = forms.ChoiceField(label="What", required=False, widget=forms.Select(attrs={"class": "input"}))
    actor = forms.CharField(
        label="Who", required=False, max_length=300, widget=forms.TextInput(attrs={"class": "input"})
    )
    subject = forms.CharField(
        label="Changed thing",
        required=False,
        max_length=450,
        widget=forms.TextInput(attrs={"class": "input"}),
    )
