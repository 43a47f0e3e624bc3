"""Inputs of the forms of alerting. Lists come as rows of inputs, the last of them empty."""

from __future__ import annotations

from typing import Any

from django import forms


class Rows(forms.Widget):
    """Reads rows of inputs; the page draws them itself."""

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return False


class RowsField(forms.Field):
    """What rows of inputs say, as the verb takes it; the verb judges it."""

    def __init__(self, widget: forms.Widget, **kwargs: Any) -> None:
        super().__init__(widget=widget, required=False, **kwargs)


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
