"""Inputs of the forms of alerting. Lists come as rows of inputs, the last of them empty; a moment comes by the clock of a zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from django import forms
from django.utils.dateparse import parse_datetime

from alerts.wall_clocks import instant_of, is_skipped
from budgets.errors import Refusal
from budgets.team_forms import RefusableForm
from budgets.zones import is_zone

# As early and as late as anybody means.
_YEARS: Final = range(1970, 3000)


class Rows(forms.Widget):
    """Reads rows of inputs; the page draws them itself."""

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False


class RowsField(forms.Field):
    """What rows of inputs say, as the verb takes it; the verb judges it."""

    def __init__(self, widget: forms.Widget, **kwargs: Any) -> None:
        super().__init__(widget=widget, required=False, **kwargs)


class MomentField(forms.Field):
    """A day and a time as a person reads them off a clock. `read_moment` makes an instant of it, once the zone is known."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=moment_input(), **kwargs)

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        try:
            found = parse_datetime(str(value).strip())
        except ValueError:
            found = None
        if found is None or found.year not in _YEARS:
            raise forms.ValidationError("Expected a day and a time, such as 2026-11-21 20:00.")
        return found


def read_moment(moment: datetime, time_zone: str) -> datetime:
    """The instant that somebody means by the clock of a zone: of a time that comes twice the first.

    Raises ValidationError where the clocks are put forward over it: what was meant nobody knows.
    """
    if moment.tzinfo is not None:
        return moment
    if is_skipped(moment.date(), moment.time(), time_zone):
        raise forms.ValidationError(
            f"In {time_zone} there is no {moment:%H:%M} on {moment:%d %b %Y}: clocks are put forward over it."
        )
    return instant_of(moment.date(), moment.time(), time_zone)


class TimeZoneField(forms.CharField):
    """The name of a zone. The page proposes the browser's where nothing was chosen; without JavaScript it is UTC."""

    def __init__(self, **kwargs: Any) -> None:
        widget = text_input(**{"list": "time-zones", "spellcheck": "false", "data-time-zone": "proposed"})
        options = {"label": "Time zone", "max_length": 100, "initial": "UTC", "widget": widget}
        super().__init__(**{**options, **kwargs})

    def clean(self, value: Any) -> str:
        name = str(super().clean(value))
        if not is_zone(name):
            raise forms.ValidationError(
                f"Expected the IANA name of a time zone such as Europe/Berlin, got {name!r:.100}."
            )
        return name


class LabelledForm(RefusableForm):
    """A form whose refusals speak of what the page calls its fields, and of rows by their numbers, from 1.

    `wording`: how the verbs call what is no field of its own → its words; the groups of the pattern are numbers from 0.
    """

    wording: ClassVar[Sequence[tuple[str, str]]] = ()

    def add_refusal(self, refusal: Refusal) -> None:
        for name, sentences in refusal.fields.items():
            self.add_error(name if name in self.fields else None, [self.in_words(one) for one in sentences])
        if not refusal.fields:
            self.add_error(None, self.in_words(refusal.message))

    def in_words(self, sentence: str) -> str:
        """The sentence with labels in place of the names that programs use."""
        for pattern, words in self.wording:
            if found := re.search(pattern, sentence):
                said = words.format(*(int(one) + 1 for one in found.groups()))
                sentence = sentence[: found.start()] + said + sentence[found.end() :]
        for name, field in self.fields.items():
            label = str(field.label or name.replace("_", " ").capitalize()).partition(" (")[0]
            # A name at the beginning of a sentence is the field's; within what somebody typed it is theirs.
            sentence = re.sub(rf"^{name}\b", f"“{label}”", sentence)
        return sentence.replace(" must be null or ", " must be empty or ")


def text_input(**attributes: Any) -> forms.TextInput:
    return forms.TextInput(attrs={"class": "input", "autocomplete": "off", **attributes})


def number_input(**attributes: Any) -> forms.NumberInput:
    return forms.NumberInput(attrs={"class": "input", "autocomplete": "off", **attributes})


def moment_input() -> forms.DateTimeInput:
    return forms.DateTimeInput(
        format="%Y-%m-%dT%H:%M", attrs={"class": "input", "type": "datetime-local", "autocomplete": "off"}
    )


def day_input() -> forms.DateInput:
    return forms.DateInput(format="%Y-%m-%d", attrs={"class": "input", "type": "date", "autocomplete": "off"})


def clock_input() -> forms.TextInput:
    return text_input(placeholder="09:00", maxlength="8", inputmode="numeric")
