"""Forms of people on call."""

from __future__ import annotations

from django import forms


class NoteForm(forms.Form):
    """What a person wants to be read beside their step."""

    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "maxlength": "2000"}),
    )
