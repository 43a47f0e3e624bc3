"""Forms of people on call: a note beside a step, and the channels on which a team hears of incidents."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from alerts.models import Channel, Severity
from budgets.team_forms import RefusableForm


class NoteForm(forms.Form):
    """What a person wants to be read beside their step."""

    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={"class": "input", "autocomplete": "off", "maxlength": "2000"}),
    )


def _text(**attributes: Any) -> forms.TextInput:
    return forms.TextInput(
        attrs={"class": "input", "autocomplete": "off", "spellcheck": "false", **attributes}
    )


class ChannelForm(RefusableForm):
    """What every kind asks for. The name of a channel that is there stays: the API knows it by that."""

    kind: ClassVar[Channel.Kind]

    name = forms.CharField(
        label="Name",
        max_length=200,
        help_text="How people and the API call it, e.g. on-call. It stays as it is.",
        widget=_text(),
        error_messages={"required": "A channel needs a name."},
    )
    min_severity = forms.ChoiceField(
        label="Takes",
        choices=[(Severity.TICKET, "Tickets and pages"), (Severity.PAGE, "Pages only")],
        widget=forms.Select(attrs={"class": "input"}),
    )
    field_order = ["name", "url", "secret", "to", "min_severity"]

    def __init__(self, *args: Any, channel: Channel | None = None, **kwargs: Any) -> None:
        if channel is not None:
            kwargs["initial"] = {"min_severity": channel.min_severity, **self.initial_of(channel.config)}
        super().__init__(*args, **kwargs)
        self.channel = channel
        if channel is not None:
            del self.fields["name"]

    def document(self) -> dict[str, Any]:
        """What `save_channel` takes. A channel that is there stays enabled or disabled."""
        return {
            "kind": str(self.kind),
            "min_severity": self.cleaned_data["min_severity"],
            "enabled": self.channel is None or self.channel.is_enabled,
            **self.config(),
        }

    def config(self) -> dict[str, Any]:
        """The kind's own part of the document."""
        raise NotImplementedError

    @staticmethod
    def initial_of(config: dict[str, Any]) -> dict[str, Any]:
        """The fields as a stored config fills them; no secret is shown again."""
        raise NotImplementedError


class WebhookForm(ChannelForm):
    kind = Channel.Kind.WEBHOOK

    url = forms.CharField(
        label="URL",
        max_length=2000,
        help_text="Each message is posted to it as JSON, signed as Standard Webhooks.",
        widget=_text(inputmode="url", placeholder="https://hooks.example.com/latency"),
        error_messages={"required": "A webhook needs the URL that is posted to."},
    )
    secret = forms.CharField(
        label="Signing secret (optional)",
        required=False,
        max_length=200,
        help_text="whsec_… of the receiver's. Left empty, one is made and shown once.",
        widget=_text(),
    )

    def __init__(self, *args: Any, channel: Channel | None = None, **kwargs: Any) -> None:
        super().__init__(*args, channel=channel, **kwargs)
        if channel is not None:
            self.fields["secret"].help_text = "whsec_… of the receiver's. Left empty, it stays as it is."

    def config(self) -> dict[str, Any]:
        return {"url": self.cleaned_data["url"], "secret": self.cleaned_data["secret"] or None}

    @staticmethod
    def initial_of(config: dict[str, Any]) -> dict[str, Any]:
        return {"url": config["url"]}


class EmailForm(ChannelForm):
    kind = Channel.Kind.EMAIL

    to = forms.CharField(
        label="E-mail addresses",
        max_length=6000,
        help_text="One a line. Each is told; one that is refused loses no other.",
        widget=forms.Textarea(
            attrs={
                "class": "input",
                "rows": 3,
                "autocomplete": "off",
                "spellcheck": "false",
                "inputmode": "email",
            }
        ),
        error_messages={"required": "Expected one e-mail address or more, such as oncall@example.com."},
    )

    def config(self) -> dict[str, Any]:
        return {"to": [line.strip() for line in self.cleaned_data["to"].splitlines() if line.strip()]}

    @staticmethod
    def initial_of(config: dict[str, Any]) -> dict[str, Any]:
        return {"to": "\n".join(config["to"])}


CHANNEL_FORMS: dict[str, type[ChannelForm]] = {form.kind: form for form in (WebhookForm, EmailForm)}
"""Kind → the form of its channels."""
