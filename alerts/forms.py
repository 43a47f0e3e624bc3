"""Forms of people on call: a note beside a step, and the channels on which a team hears of incidents."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from alerts.channels import SERVICES, Field
from alerts.models import Channel, Severity
from budgets.models import User
from budgets.team_forms import RefusableForm


class NoteForm(forms.Form):
    """What a person wants to be read beside their step."""

    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=2000,
        error_messages={
            "max_length": "A note has at most %(limit_value)d characters, this one has %(show_value)d. Nothing was done."
        },
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
    owner = forms.ChoiceField(
        label="Whose",
        help_text="One of your own is told of nothing but what a schedule or an escalation policy has for you.",
        widget=forms.Select(attrs={"class": "input"}),
    )
    # The kind's own stand between.
    field_order = ["name", "url", "secret", "to"]

    def __init__(self, *args: Any, person: User, channel: Channel | None = None, **kwargs: Any) -> None:
        if channel is not None:
            owner = channel.owner.email if channel.owner else ""
            kwargs["initial"] = {
                "min_severity": channel.min_severity,
                "owner": owner,
                **self.initial_of(channel.config),
            }
        super().__init__(*args, **kwargs)
        self.channel = channel
        choices = [("", "The team's: told of its incidents"), (person.email, "Mine: used when I am on call")]
        if channel is not None and channel.owner is not None and channel.owner != person:
            choices.append((channel.owner.email, f"{channel.owner.email}'s"))
        self.fields["owner"].choices = choices  # type: ignore[attr-defined]
        self.fields["owner"].required = False
        for last in ("min_severity", "owner"):
            self.fields[last] = self.fields.pop(last)
        if channel is not None:
            del self.fields["name"]

    def document(self) -> dict[str, Any]:
        """What `save_channel` takes. A channel that is there stays enabled or disabled."""
        return {
            "kind": str(self.kind),
            "min_severity": self.cleaned_data["min_severity"],
            "enabled": self.channel is None or self.channel.is_enabled,
            "owner": self.cleaned_data["owner"] or None,
            **self.config(),
        }

    def config(self) -> dict[str, Any]:
        """The kind's own part of the document."""
        raise NotImplementedError

    @classmethod
    def initial_of(cls, config: dict[str, Any]) -> dict[str, Any]:
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

    @classmethod
    def initial_of(cls, config: dict[str, Any]) -> dict[str, Any]:
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

    @classmethod
    def initial_of(cls, config: dict[str, Any]) -> dict[str, Any]:
        return {"to": "\n".join(config["to"])}


class ServiceForm(ChannelForm):
    """Of a kind whose fields are texts, as its module lists them."""

    service_fields: ClassVar[tuple[Field, ...]]

    def __init__(self, *args: Any, channel: Channel | None = None, **kwargs: Any) -> None:
        super().__init__(*args, channel=channel, **kwargs)
        for one in self.service_fields:
            if channel is not None and one.is_secret:
                field = self.fields[one.name]
                field.required = False
                field.help_text = f"Left empty, it stays as it is. {one.hint}"
        # What can be done without, and is stored: leaving its field empty keeps it.
        self.removable = {
            one.name: f"remove_{one.name}"
            for one in self.service_fields
            if channel is not None and one.is_secret and not one.is_required and one.name in channel.config
        }
        names = list(self.fields)
        for name, removal in self.removable.items():
            label = str(self.fields[name].label).removesuffix(" (optional)").lower()
            self.fields[removal] = forms.BooleanField(
                label=f"Remove the stored {label}",
                required=False,
                widget=forms.CheckboxInput(attrs={"autocomplete": "off"}),
            )
            names.insert(names.index(name) + 1, removal)
        self.order_fields(names)

    def clean(self) -> dict[str, Any]:
        for name, removal in self.removable.items():
            if self.cleaned_data.get(removal) and self.cleaned_data.get(name):
                self.add_error(name, "Expected a new one or that the stored one is removed, got both.")
        return self.cleaned_data

    def config(self) -> dict[str, Any]:
        """A secret that was left empty is left out, so it stays, unless it is to be removed."""
        given = {one.name: self.cleaned_data[one.name] for one in self.service_fields}
        removed = {name for name, removal in self.removable.items() if self.cleaned_data[removal]}
        return {name: "" if name in removed else text or None for name, text in given.items()}

    @classmethod
    def initial_of(cls, config: dict[str, Any]) -> dict[str, Any]:
        return {
            one.name: config[one.name]
            for one in cls.service_fields
            if one.name in config and not one.is_secret
        }


def _field_of(one: Field) -> forms.Field:
    if one.choices:
        return forms.ChoiceField(
            label=one.label,
            choices=one.choices,
            help_text=one.hint,
            widget=forms.Select(attrs={"class": "input"}),
        )
    attributes = {"inputmode": "url"} if one.is_url else {}
    return forms.CharField(
        label=one.label,
        required=one.is_required,
        max_length=one.max_characters,
        help_text=one.hint,
        widget=_text(placeholder=one.example, **attributes),
        error_messages={"required": f"{one.label} is missing: {one.expected}."},
    )


def _service_form(kind: str, fields: tuple[Field, ...]) -> type[ChannelForm]:
    made: dict[str, Any] = {one.name: _field_of(one) for one in fields}
    return type(
        f"{kind.capitalize()}Form",
        (ServiceForm,),
        {"kind": Channel.Kind(kind), "service_fields": fields, **made},
    )


CHANNEL_FORMS: dict[str, type[ChannelForm]] = {
    Channel.Kind.EMAIL: EmailForm,
    **{kind: _service_form(kind, service.fields) for kind, service in SERVICES.items()},
    Channel.Kind.WEBHOOK: WebhookForm,
}
"""Kind → the form of its channels, in the order in which a person chooses."""
