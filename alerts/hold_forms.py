"""Forms of what holds notifications back: silences and maintenance windows."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, Final

from django import forms

from alerts import matchers
from alerts.inputs import (
    MomentField,
    TimeZoneField,
    clock_input,
    day_input,
    number_input,
    read_moment,
    text_input,
)
from alerts.maintenance import window_document
from alerts.matcher_forms import MatchersForm, NamedForm
from alerts.models import MaintenanceWindow
from alerts.silences import MAX_DAYS
from alerts.wall_clocks import instant_of, local_day
from budgets.features import instant

TOMORROW: Final = "tomorrow"
MONDAY: Final = "monday"
LASTS: Final = [
    ("30", "30 min"),
    ("60", "1 h"),
    ("120", "2 h"),
    ("240", "4 h"),
    ("480", "8 h"),
    (TOMORROW, "until tomorrow 09:00"),
    (MONDAY, "until Monday 09:00"),
    ("1440", "1 day"),
    ("10080", "7 days"),
    ("", "until the end below"),
]
_MORNING: Final = time(9)


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
        label="Lasts", required=False, choices=LASTS, initial="120", widget=forms.RadioSelect
    )
    time_zone = TimeZoneField(help_text="Whose clock is meant, e.g. Europe/Berlin.")
    starts_at = MomentField(label="Starts (optional)", required=False, help_text="Left empty: now.")
    ends_at = MomentField(
        label="Ends (optional)",
        required=False,
        help_text=f"Instead of a length; at most {MAX_DAYS} days after the start.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("starts_at", "ends_at"):
            if cleaned.get(name) is not None and "time_zone" in cleaned:
                try:
                    cleaned[name] = read_moment(cleaned[name], cleaned["time_zone"])
                except forms.ValidationError as error:
                    self.add_error(name, error)
        if not cleaned.get("lasts") and cleaned.get("ends_at") is None and "ends_at" not in self.errors:
            self.add_error("ends_at", "Choose how long it lasts, or fill in when it ends.")
        return cleaned

    def document(self, now: datetime) -> dict[str, Any]:
        """What `create_silence` takes. An end that is filled in is meant, whatever length is chosen."""
        starts_at = self.cleaned_data["starts_at"]
        ends_at = self.cleaned_data["ends_at"] or self._end(starts_at or now)
        return {
            "matchers": self.cleaned_data["matchers"],
            "reason": self.cleaned_data["reason"],
            "starts_at": instant(starts_at),
            "ends_at": instant(ends_at),
        }

    def _end(self, start: datetime) -> datetime:
        """The end of the length that was chosen; a morning is that of the zone, and never today's."""
        lasts, time_zone = self.cleaned_data["lasts"], self.cleaned_data["time_zone"]
        if lasts not in (TOMORROW, MONDAY):
            return start + timedelta(minutes=int(lasts))
        today = local_day(start, time_zone)
        days = 1 if lasts == TOMORROW else 7 - today.weekday()
        return instant_of(today + timedelta(days=days), _MORNING, time_zone)


class WindowForm(NamedForm):
    """A maintenance window."""

    reason = forms.CharField(label="Reason (optional)", required=False, max_length=500, widget=text_input())
    time_zone = TimeZoneField(help_text="IANA name, e.g. Europe/Berlin.")
    starts_on = forms.DateField(label="First day", widget=day_input(), help_text="In the zone.")
    starts_at = forms.CharField(
        label="Starts at",
        max_length=8,
        widget=clock_input(),
        help_text="By the clock of the zone.",
    )
    duration_minutes = forms.IntegerField(
        label="Lasts, in minutes",
        initial=60,
        widget=number_input(min=1, max=10080),
        help_text="Up to a week.",
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
