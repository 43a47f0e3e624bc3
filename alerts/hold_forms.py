"""Forms of silences, maintenance windows, schedules and escalation policies. Lists come as rows, the last of them empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django import forms

from alerts import matchers
from alerts.maintenance import window_document
from alerts.models import EscalationPolicy, MaintenanceWindow, Schedule
from alerts.policies import MAX_STEPS, known_recipients, policy_document
from alerts.rotas import WEEKDAYS
from alerts.schedules import schedule_document
from alerts.wall_clocks import zone_names
from budgets.features import instant
from budgets.models import Team, User
from budgets.team_forms import RefusableForm

OPERATORS: Final = [("=", "is"), ("!=", "is not"), ("~", "is like"), ("!~", "is not like")]
# A fact that an incident may lack: what "is" and "is not" say of the empty text.
_ABSENT: Final = [("none", "is none"), ("any", "is any")]
GAP: Final = "-"
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


class _Rows(forms.Widget):
    """Reads rows of inputs; the page draws them itself."""

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False


class _MatcherRows(_Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, str]]:
        if not hasattr(data, "getlist"):
            return list(data.get(name, []))
        found = []
        for fact, operator, value in zip(
            data.getlist("matcher_name"),
            data.getlist("matcher_operator"),
            data.getlist("matcher_value"),
            strict=False,
        ):
            if operator in ("none", "any"):
                found.append({"name": fact, "operator": "=" if operator == "none" else "!=", "value": ""})
            elif value.strip():
                found.append({"name": fact, "operator": operator, "value": value.strip()})
        return found


class _PeopleRows(_Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str | None]:
        return [None if one == GAP else one for one in data.getlist("person") if one]


class _HoursRows(_Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        found = []
        for number in range(50):
            days = data.getlist(f"hours_{number}_days")
            opens_at, closes_at = (data.get(f"hours_{number}_{end}", "").strip() for end in ("from", "to"))
            if days or opens_at or closes_at:
                found.append({"days": days, "from": opens_at, "to": closes_at})
        return found


class _StepRows(_Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        found = []
        for number in range(MAX_STEPS + 10):
            notify = [one.partition(":") for one in data.getlist(f"step_{number}_notify") if one]
            if notify:
                wait = data.get(f"step_{number}_wait", "").strip()
                found.append(
                    {
                        "notify": [{"kind": kind, "name": name} for kind, _, name in notify],
                        "wait_minutes": int(wait) if wait.isascii() and wait.isdigit() else wait,
                    }
                )
        return found


class RowsField(forms.Field):
    """What rows of inputs say, as the verb takes it; the verb judges it."""

    def __init__(self, widget: forms.Widget, **kwargs: Any) -> None:
        super().__init__(widget=widget, required=False, **kwargs)


@dataclass(frozen=True)
class MatcherRow:
    """A row of the form: one fact, how it is compared, with what."""

    name: str
    label: str
    operator: str
    value: str
    operators: Sequence[tuple[str, str]]


def matcher_rows(found: Sequence[Mapping[str, str]]) -> list[MatcherRow]:
    """A row for each matcher, and an empty one for each fact that has none."""
    rows = []
    for name in matchers.NAMES:
        operators = [*OPERATORS, *_ABSENT] if name in ("milestone", "component") else OPERATORS
        of_name = [one for one in found if one.get("name") == name] or [
            {"operator": "=", "value": "", "is_new": "yes"}
        ]
        for one in of_name:
            operator = one["operator"]
            if not one["value"] and "is_new" not in one:
                operator = "none" if operator == "=" else "any"
            rows.append(MatcherRow(name, name.capitalize(), operator, one["value"], operators))
    return rows


def _text(**attributes: Any) -> forms.TextInput:
    return forms.TextInput(attrs={"class": "input", "autocomplete": "off", **attributes})


def _number(**attributes: Any) -> forms.NumberInput:
    return forms.NumberInput(attrs={"class": "input", "autocomplete": "off", **attributes})


def _moment() -> forms.DateTimeInput:
    return forms.DateTimeInput(
        format="%Y-%m-%dT%H:%M", attrs={"class": "input", "type": "datetime-local", "autocomplete": "off"}
    )


def _day() -> forms.DateInput:
    return forms.DateInput(format="%Y-%m-%d", attrs={"class": "input", "type": "date", "autocomplete": "off"})


def _clock() -> forms.TextInput:
    return _text(placeholder="09:00", maxlength="8", inputmode="numeric")


class MatchersForm(RefusableForm):
    """What has matchers."""

    matchers = RowsField(_MatcherRows())

    @property
    def matcher_rows(self) -> list[MatcherRow]:
        return matcher_rows(self["matchers"].value() or [])


class SilenceForm(MatchersForm):
    """A silence: what it is about, why, and how long."""

    reason = forms.CharField(
        label="Reason",
        max_length=500,
        widget=_text(),
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
        label="Starts (UTC, optional)", required=False, widget=_moment(), help_text="Left empty: now."
    )
    ends_at = forms.DateTimeField(
        label="Ends (UTC, optional)",
        required=False,
        widget=_moment(),
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


class _NamedForm(MatchersForm):
    name = forms.CharField(
        label="Name",
        max_length=200,
        help_text="How people, files and the API call it. It stays as it is.",
        widget=_text(),
        error_messages={"required": "It needs a name."},
    )

    def __init__(self, *args: Any, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["name"]


class WindowForm(_NamedForm):
    """A maintenance window."""

    reason = forms.CharField(label="Reason (optional)", required=False, max_length=500, widget=_text())
    time_zone = forms.CharField(
        label="Time zone",
        max_length=100,
        initial="UTC",
        widget=_text(list="time-zones"),
        help_text="IANA name, e.g. Europe/Berlin.",
    )
    starts_on = forms.DateField(label="First day", widget=_day())
    starts_at = forms.CharField(
        label="Starts at",
        max_length=8,
        widget=_clock(),
        help_text="By the clock of the time zone, in summer as in winter.",
    )
    duration_minutes = forms.IntegerField(
        label="Lasts, in minutes", initial=60, widget=_number(min=1, max=10080)
    )
    recurrence = forms.CharField(
        label="Recurrence (optional)",
        required=False,
        max_length=500,
        widget=_text(placeholder="FREQ=WEEKLY;BYDAY=SU", list="recurrences", spellcheck="false"),
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
        return {**document, "starts_on": window.starts_on, "is_enabled": document["enabled"]}


@dataclass(frozen=True)
class HoursRow:
    number: int
    days: list[tuple[str, bool]]
    opens_at: str
    closes_at: str


class ScheduleForm(RefusableForm):
    """A schedule: its rotation and its hours."""

    name = forms.CharField(
        label="Name",
        max_length=200,
        help_text="How people, files and the API call it, e.g. primary. It stays as it is.",
        widget=_text(),
        error_messages={"required": "It needs a name."},
    )
    time_zone = forms.CharField(
        label="Time zone",
        max_length=100,
        initial="UTC",
        widget=_text(list="time-zones"),
        help_text="IANA name, e.g. Europe/Berlin.",
    )
    starts_on = forms.DateField(label="First hand-over", widget=_day(), help_text="Nobody is on call before.")
    hands_over_at = forms.CharField(
        label="Hands over at",
        max_length=8,
        initial="09:00",
        widget=_clock(),
        help_text="By the clock of the time zone, in summer as in winter.",
    )
    turn_days = forms.IntegerField(label="A turn lasts, in days", initial=7, widget=_number(min=1, max=56))
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
        return {**schedule_document(schedule), "starts_on": schedule.starts_on}


class OverrideForm(RefusableForm):
    """Somebody else, or nobody, for a while."""

    person = forms.ChoiceField(label="On call", widget=forms.Select(attrs={"class": "input"}))
    starts_at = forms.DateTimeField(label="From (UTC)", widget=_moment())
    ends_at = forms.DateTimeField(label="To (UTC)", widget=_moment())

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        members = User.objects.filter(memberships__team=team, is_active=True).order_by("email")
        self.fields["person"].choices = [  # type: ignore[attr-defined]
            *((one, one) for one in members.values_list("email", flat=True)),
            (GAP, "nobody"),
        ]

    @property
    def email(self) -> str | None:
        return None if self.cleaned_data["person"] == GAP else self.cleaned_data["person"]


@dataclass(frozen=True)
class StepRow:
    """A step of the form; each of `selects` is the choices by kind: (kind, [(value, label, is_chosen)])."""

    number: int
    selects: list[list[tuple[str, list[tuple[str, str, bool]]]]]
    wait_minutes: Any


class PolicyForm(_NamedForm):
    """An escalation policy."""

    steps = RowsField(_StepRows())
    repetitions = forms.IntegerField(
        label="Begins anew, times",
        initial=0,
        widget=_number(min=0, max=9),
        help_text="How often the steps begin again after the last.",
    )
    reminder_minutes = forms.IntegerField(
        label="Reminds who acknowledged every, in minutes (optional)",
        required=False,
        initial=60,
        widget=_number(min=5),
        help_text="Left empty: never.",
    )
    unacknowledge_minutes = forms.IntegerField(
        label="Opens it again after silence of, in minutes (optional)",
        required=False,
        widget=_number(min=5),
        help_text="Where who acknowledged says nothing for so long. Left empty: never.",
    )
    is_enabled = forms.BooleanField(label="Enabled", required=False, initial=True)

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known = known_recipients(team)

    @property
    def step_rows(self) -> list[StepRow]:
        found = [*(self["steps"].value() or []), *[{"notify": [], "wait_minutes": 5}] * 2]
        return [
            StepRow(
                number,
                [self._select(one) for one in [*step["notify"], *[None] * max(1, 3 - len(step["notify"]))]],
                step["wait_minutes"],
            )
            for number, step in enumerate(found)
        ]

    def _select(self, chosen: Mapping[str, str] | None) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        groups = []
        for kind, names in self._known.items():
            here = chosen["name"] if chosen and chosen["kind"] == kind else None
            choices = [(f"{kind}:{name}", name, name == here) for name in names]
            if here is not None and here not in names:
                choices.append((f"{kind}:{here}", f"{here} (gone)", True))
            groups.append((f"{kind.capitalize()}s" if kind != "person" else "People", choices))
        return groups

    def document(self, policy: EscalationPolicy | None) -> dict[str, Any]:
        """What `save_policy` takes. The position stays as it is."""
        given = dict(self.cleaned_data)
        given.pop("name", None)
        given["enabled"] = given.pop("is_enabled")
        return {**given, "position": policy.position if policy else None}

    @staticmethod
    def initial_of(policy: EscalationPolicy) -> dict[str, Any]:
        return {**policy_document(policy), "is_enabled": policy.is_enabled}


def suggestions(team: Team) -> dict[str, list[str]]:
    """What a team's incidents are about, for the lists behind the inputs of matchers."""
    features = list(team.features.filter(archived_at=None).order_by("slug").values_list("slug", flat=True))
    components = team.features.order_by("components__name").values_list("components__name", flat=True)
    return {
        "feature": features,
        "milestone": ["first_token", "complete"],
        "component": [one for one in dict.fromkeys(components) if one][:200],
        "environment": ["production", "staging"],
        "severity": ["page", "ticket"],
        "zones": zone_names(),
    }
