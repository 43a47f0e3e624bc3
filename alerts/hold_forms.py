"""Forms of what holds notifications back: silences and maintenance windows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django import forms

from alerts import matchers
from alerts.inputs import clock_input, day_input, moment_input, number_input, text_input
from alerts.maintenance import window_document
from alerts.matcher_forms import MatchersForm, NamedForm
from alerts.models import MaintenanceWindow
from budgets.features import instant

LASTS: Final = [
    ("30", "30 minutes"),
    ("60", "1 hour"),
    ("120", "2 hours"),
    ("240", "4 hours"),
    ("480", "8 hours"),
    ("1440", "1 day"),
    ("4320", "3 days"),
    ("10080", "7 days"),
    ("", "until the end below"),
]


class SilenceForm(MatchersForm):
    """A silence: what it is about, why, and how long."""

    reason = forms.CharField(
        label="Reason",
        max_length=500,
        widget=text_input(),
        help_text="Others read it, and wonder less.",
        error_messages={"required": "A silence needs a reason."},
    )
    lasts = forms.ChoiceField(
        label="Lasts",
        required=False,
        choices=LASTS,
        initial="120",
        widget=forms.Select(attrs={"class": "input"}),
    )
    starts_at = forms.DateTimeField(
        label="Starts (UTC, optional)", required=False, widget=moment_input(), help_text="Left empty: now."
    )
    ends_at = forms.DateTimeField(
        label="Ends (UTC, optional)",
        required=False,
        widget=moment_input(),
        help_text="Instead of a length; at most 90 days after the start.",
    )

    def document(self, now: datetime) -> dict[str, Any]:
        """What `create_silence` takes."""
        starts_at = self.cleaned_data["starts_at"]
        ends_at = self.cleaned_data["ends_at"]
        if ends_at is None and self.cleaned_data["lasts"]:
            ends_at = (starts_at or now) + timedelta(minutes=int(self.cleaned_data["lasts"]))
        return {
            "matchers": self.cleaned_data["matchers"],
            "reason": self.cleaned_data["reason"],
            "starts_at": instant(starts_at),
            **({"ends_at": instant(ends_at)} if ends_at else {}),
        }


class WindowForm(NamedForm):
    """A maintenance window."""

    reason = forms.CharField(label="Reason (optional)", required=False, max_length=500, widget=text_input())
    time_zone = forms.CharField(
        label="Time zone",
        max_length=100,
        initial="UTC",
        widget=text_input(list="time-zones"),
        help_text="IANA name, e.g. Europe/Berlin.",
    )
    starts_on = forms.DateField(label="First day", widget=day_input())
    starts_at = forms.CharField(
        label="Starts at",
        max_length=8,
        widget=clock_input(),
        help_text="By the clock of the time zone, in summer as in winter.",
    )
    duration_minutes = forms.IntegerField(
        label="Lasts, in minutes", initial=60, widget=number_input(min=1, max=10080)
    )
    recurrence = forms.CharField(
        label="Recurrence (optional)",
        required=False,
        max_length=500,
        widget=text_input(placeholder="FREQ=WEEKLY;BYDAY=SU", list="recurrences", spellcheck="false"),
        help_text="An RRULE, e.g. FREQ=WEEKLY;BYDAY=SU or FREQ=MONTHLY;BYDAY=1MO. Left empty: once.",
    )
    is_enabled = forms.BooleanField(label="Enabled", required=False, initial=True)

    def document(self) -> dict[str, Any]:
        """What `save_window` takes."""
        given = dict(self.cleaned_data)
        given.pop("name", None)
        given["starts_on"] = given["starts_on"].isoformat()
        given["enabled"] = given.pop("is_enabled")
        return given

    @staticmethod
    def initial_of(window: MaintenanceWindow) -> dict[str, Any]:
        document = window_document(window)
        found = window.matchers
        return {
            **document,
            "starts_on": window.starts_on,
            "is_enabled": document["enabled"],
            # What cannot be read can be written anew.
            "matchers": [] if matchers.problems(found, may_be_empty=True) else found,
        }
