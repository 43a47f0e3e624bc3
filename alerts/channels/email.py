"""Mail to people: text and HTML, threaded by incident, through the mail server of this installation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.template.loader import render_to_string

from alerts.addresses import Network
from alerts.channels.base import InvalidConfig
from alerts.channels.message import Message
from alerts.outbound import DEADLINE_S, Answer, message_id, send_mail
from alerts.wording import Letter, letter

# A team's list belongs into one address of the mail server's, where people can also leave it.
MAX_ADDRESSES = 20

secret_fields = ()
address_fields = ()


def validate(config: Mapping[str, Any], *, allowed_networks: Sequence[Network]) -> dict[str, Any]:
    """{"to": [address, …]} as it is stored, each once; raises InvalidConfig."""
    fields: dict[str, list[str]] = {
        name: ["Email has the field to, and no other."] for name in config.keys() - {"to"}
    }
    given = config.get("to")
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        fields["to"] = ['The addresses are missing: a list such as ["oncall@example.com"].']
        raise InvalidConfig(fields)
    addresses = {one.strip().lower(): one.strip() for one in given}
    wrong = [f"{address!r:.100} is no e-mail address." for address in addresses.values() if not _is(address)]
    if len(addresses) > MAX_ADDRESSES:
        wrong.append(f"{len(addresses)} addresses are too many; {MAX_ADDRESSES} are possible.")
    if wrong:
        fields["to"] = wrong[:5]
    if fields:
        raise InvalidConfig(fields)
    return {"to": list(addresses.values())}


def send(
    config: Mapping[str, Any],
    message: Message,
    *,
    now: datetime,
    allowed_networks: Sequence[Network],
    deadline_s: float = DEADLINE_S,
) -> Answer:
    """The mail server's answer once it has the mail; raises DeliveryError.

    The networks that may be reached say nothing here: the operator chose the server, not the team.
    """
    return send_mail(mail(config, message), deadline_s=deadline_s)


def secrets(config: Mapping[str, Any]) -> list[str]:
    """None: everybody in the team may know who is told."""
    return []


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """All of it: there are none."""
    return dict(config)


def describe(config: Mapping[str, Any]) -> str:
    """The first address, and how many more.

    >>> describe({"to": ["a@example.com", "b@example.com", "c@example.com"]})
    'Email to a@example.com and 2 more'
    """
    first, *others = config["to"]
    return f"Email to {first}" + (f" and {len(others)} more" if others else "")


def mail(config: Mapping[str, Any], message: Message) -> EmailMultiAlternatives:
    """The mail of a message, byte for byte the same at every try but for its date.

    Message-ID is the message's own, so that a mail server drops a copy. What follows an opening answers to
    it, which makes one conversation of an incident.
    """
    content = letter(message.incident, message.story)
    headers = {
        "Message-ID": message_id(message.message_id),
        # Out-of-office notes must not answer (RFC 3834).
        "Auto-Submitted": "auto-generated",
    }
    if message.thread_id != message.message_id:
        headers["In-Reply-To"] = headers["References"] = message_id(message.thread_id)
    made = EmailMultiAlternatives(
        subject=content.subject,
        body=_text(content, message),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=list(config["to"]),
        headers=headers,
    )
    page = render_to_string("alerts/email/message.html", {"letter": content, "message": message})
    made.attach_alternative(page, "text/html")
    return made


def _text(content: Letter, message: Message) -> str:
    links = [f"{text}: {address}" for text, address in content.links]
    footer = f"-- \nLatency Dashboard, channel {' '.join(message.channel.split())}"
    return "\n\n".join([content.lead, "\n".join(content.sentences), "\n".join(links), footer]) + "\n"


def _is(address: str) -> bool:
    try:
        validate_email(address)
    except ValidationError:
        return False
    return len(address) <= 254
