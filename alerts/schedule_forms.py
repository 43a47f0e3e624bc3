"""Forms of on-call schedules and their overrides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django import forms

from alerts.inputs import (
    LabelledForm,
    MomentField,
    Rows,
    RowsField,
    TimeZoneField,
    clock_input,
    day_input,
    number_input,
    read_moment,
    text_input,
)
from alerts.models import Schedule
from alerts.rotas import WEEKDAYS
from alerts.schedules import schedule_document, trouble_with, zone_of
from budgets.models import Team, User

GAP: Final = "-"


class _PeopleRows(Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str | None]:
        return [None if one == GAP else one for one in data.getlist("person") if one]


class _HoursRows(Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        found = []
        for number in range(50):
            days = data.getlist(f"hours_{number}_days")
            opens_at, closes_at = (data.get(f"hours_{number}_{end}", "").strip() for end in ("from", "to"))
            if days or opens_at or closes_at:
                found.append({"days": days, "from": opens_at, "to": closes_at})
        return found


@dataclass(frozen=True)
class HoursRow:
    number: int
    days: list[tuple[str, bool]]
    opens_at: str
    closes_at: str


class ScheduleForm(LabelledForm):
    """A schedule: its rotation and its hours."""

    wording = (
        (r"^people\[(\d+)\]", "Turn {0}"),
        (r"^people (?=has|needs)", "The rotation "),
        (r"^hours must be a list of at most", "The number of rows must be at most"),
        (r"^hours\[(\d+)\]\.days must be a list of", "Row {0} needs days, one or more of"),
        (r"^hours\[(\d+)\]\.from", "The beginning of row {0}"),
        (r"^hours\[(\d+)\]\.to", "The end of row {0}"),
        (r"^hours\[(\d+)\]", "Row {0}"),
    )

    name = forms.CharField(
        label="Name",
        max_length=200,
        help_text="How people, files and the API call it, e.g. primary. It stays as it is.",
        widget=text_input(),
        error_messages={"required": "It needs a name."},
    )
    time_zone = TimeZoneField(help_text="IANA name, e.g. Europe/Berlin.")
    starts_on = forms.DateField(
        label="First hand-over", widget=day_input(), help_text="Nobody is on call before."
    )
    hands_over_at = forms.CharField(
        label="Hands over at",
        max_length=8,
        initial="09:00",
        widget=clock_input(),
        help_text="By the clock of the zone.",
    )
    turn_days = forms.IntegerField(
        label="A turn lasts, in days", initial=7, widget=number_input(min=1, max=56), help_text="Up to 56."
    )
    people = RowsField(_PeopleRows())
    hours = RowsField(_HoursRows())

    def __init__(self, *args: Any, team: Team, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._members = list(
            User.objects.filter(memberships__team=team, is_active=True)
            .order_by("email")
            .values_list("email", flat=True)
        )
        if not is_new:
            del self.fields["name"]

    @property
    def people_rows(self) -> list[list[tuple[str, str, bool]]]:
        """For each place, and some empty ones, the choices: value, label, whether it is chosen."""
        chosen = [GAP if one is None else one for one in self["people"].value() or []]
        rows = []
        for place in [*chosen, *[""] * max(3, 5 - len(chosen))]:
            gone = [place] if place not in ("", GAP) and place not in self._members else []
            choices = [("", "–"), *((one, one) for one in self._members)]
            choices += [(one, f"{one} (left the team)") for one in gone] + [(GAP, "nobody: a gap")]
            rows.append([(value, label, value == place) for value, label in choices])
        return rows

    @property
    def hours_rows(self) -> list[HoursRow]:
        found = [*(self["hours"].value() or []), *[{"days": [], "from": "", "to": ""}] * 2]
        return [
            HoursRow(number, [(day, day in one["days"]) for day in WEEKDAYS], one["from"], one["to"])
            for number, one in enumerate(found)
        ]

    def document(self) -> dict[str, Any]:
        """What `save_schedule` takes."""
        given = dict(self.cleaned_data)
        given.pop("name", None)
        return {**given, "starts_on": given["starts_on"].isoformat()}

    @staticmethod
    def initial_of(schedule: Schedule) -> dict[str, Any]:
        document = schedule_document(schedule)
        # What cannot be read can be written anew.
        hours = [] if trouble_with(schedule) else document["hours"]
        return {**document, "hours": hours, "starts_on": schedule.starts_on}


class OverrideForm(LabelledForm):
    """Somebody else, or nobody, for a while."""

    person = forms.ChoiceField(label="On call", widget=forms.Select(attrs={"class": "input"}))
    starts_at = MomentField(label="From")
    ends_at = MomentField(label="To")

    def __init__(self, *args: Any, schedule: Schedule, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._time_zone = zone_of(schedule)
        for name in ("starts_at", "ends_at"):
            self.fields[name].help_text = f"By the clock of {self._time_zone}."
        members = User.objects.filter(memberships__team=schedule.team_id, is_active=True).order_by("email")
        self.fields["person"].choices = [  # type: ignore[attr-defined]
            *((one, one) for one in members.values_list("email", flat=True)),
            (GAP, "nobody"),
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("starts_at", "ends_at"):
            if name in cleaned:
                try:
                    cleaned[name] = read_moment(cleaned[name], self._time_zone)
                except forms.ValidationError as error:
                    self.add_error(name, error)
        return cleaned

    @property
    def email(self) -> str | None:
        return None if self.cleaned_data["person"] == GAP else self.cleaned_data["person"]
