"""What the channels to services have in common: one POST of JSON, and a verdict on the answer.

A service's module says which fields its channel has, what is posted for a message, and what the service's
answers mean. All else is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from alerts.addresses import Network
from alerts.channels.base import PERMANENT_STATUSES, USER_AGENT, ChannelKind
from alerts.channels.fields import Field, read, secrets_in, without_secrets
from alerts.channels.message import Message
from alerts.outbound import DEADLINE_S, Answer, DeliveryError, Resolver, getaddrinfo, post

PAGE_COLOUR: Final = 0xC62828
TICKET_COLOUR: Final = 0xB45309
TAKEN_COLOUR: Final = 0x1D4ED8
OVER_COLOUR: Final = 0x15803D
SILENT_COLOUR: Final = 0x6B7280
COLOURS: Final = {
    "page": PAGE_COLOUR,
    "ticket": TICKET_COLOUR,
    "taken": TAKEN_COLOUR,
    "over": OVER_COLOUR,
    "silent": SILENT_COLOUR,
}
"""A message's tone → the colour at its side, 0xRRGGBB. The words say the same: nobody depends on a colour."""


@dataclass(frozen=True, slots=True)
class Post:
    """What is posted: a document in JSON's own types."""

    url: str
    document: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an answer is no delivery, in a sentence. `retry_after_s` where the answer's body asks for it."""

    said: str
    is_permanent: bool = False
    retry_after_s: float | None = None


def judge(answer: Answer) -> Verdict | None:
    """None for 2xx. Everything else but 410 is worth another try, as `alerts.channels.base.require_success` says."""
    if 200 <= answer.status < 300:
        return None
    is_permanent = answer.status in PERMANENT_STATUSES
    then = ", which says that it is gone for good" if is_permanent else ""
    return Verdict(f"The receiver answered {answer.status}{then}.", is_permanent)


def document_in(answer: Answer) -> dict[str, Any]:
    """The JSON object that a service answered with; empty where it is none, as from a proxy in front of it."""
    try:
        found = msgspec.json.decode(answer.excerpt)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class FieldedKind(ChannelKind, Protocol):
    """A kind of channel whose config is a list of texts."""

    @property
    def fields(self) -> tuple[Field, ...]: ...


@dataclass(frozen=True)
class Service:
    """A kind of channel whose messages are one POST each."""

    label: str
    fields: tuple[Field, ...]
    post_of: Callable[[Mapping[str, Any], Message, datetime], Post]
    describe: Callable[[Mapping[str, Any]], str]
    judge: Callable[[Answer], Verdict | None] = judge

    @property
    def secret_fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.is_secret)

    @property
    def address_fields(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.is_url and not field.is_secret)

    def validate(
        self,
        config: Mapping[str, Any],
        *,
        allowed_networks: Sequence[Network],
        resolve: Resolver = getaddrinfo,
    ) -> dict[str, Any]:
        return dict(read(self.label, self.fields, config, allowed_networks=allowed_networks, resolve=resolve))

    def send(
        self,
        config: Mapping[str, Any],
        message: Message,
        *,
        now: datetime,
        allowed_networks: Sequence[Network],
        deadline_s: float = DEADLINE_S,
        resolve: Resolver = getaddrinfo,
    ) -> Answer:
        """The answer by which the service took the message; raises DeliveryError."""
        return send_post(
            self.post_of(config, message, now),
            judge=self.judge,
            now=now,
            allowed_networks=allowed_networks,
            deadline_s=deadline_s,
            resolve=resolve,
        )

    def secrets(self, config: Mapping[str, Any]) -> Sequence[str]:
        return secrets_in(self.fields, config)

    def without_secrets(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return without_secrets(self.fields, config)


def send_post(
    made: Post,
    *,
    judge: Callable[[Answer], Verdict | None] = judge,
    now: datetime,
    allowed_networks: Sequence[Network],
    deadline_s: float = DEADLINE_S,
    resolve: Resolver = getaddrinfo,
) -> Answer:
    """The answer that `judge` finds to be a delivery; raises DeliveryError for every other."""
    answer = post(
        made.url,
        body=msgspec.json.encode(made.document),
        headers={"content-type": "application/json", "user-agent": USER_AGENT, **made.headers},
        allowed_networks=allowed_networks,
        deadline_s=deadline_s,
        resolve=resolve,
    )
    verdict = judge(answer)
    if verdict is None:
        return answer
    asked_s = verdict.retry_after_s if verdict.retry_after_s is not None else answer.retry_after_s(now)
    raise DeliveryError(
        verdict.said,
        permanent=verdict.is_permanent,
        retry_after_s=None if verdict.is_permanent else asked_s,
        status=answer.status,
        excerpt=answer.excerpt,
    )


# Texts


def cut(text: str, characters: int) -> str:
    """At most so many characters, the last of which says that there was more.

    >>> cut("latency", 4), cut("late", 4)
    ('lat…', 'late')
    """
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def unmentioned(text: str) -> str:
    """The text with an invisible space behind each @ that would call somebody. An e-mail address stays.

    >>> unmentioned("@here, kim@example.com").replace("\N{ZERO WIDTH SPACE}", "|")
    '@|here, kim@example.com'
    """
    return re.sub(r"(?<!\w)@(?=\w)", "@\N{ZERO WIDTH SPACE}", text)


def host_of(url: str) -> str:
    """Host and port, for a description: the path often carries a token."""
    return urlsplit(url).netloc


def api_url(service: str, default: str) -> Field:
    """A field by which the requests go elsewhere: a relay inside one's network, a service that speaks the same."""
    return Field(
        name="api_url",
        label="API address (optional)",
        expected=f"an address such as {default}",
        hint=f"Only where requests to {service} take another way, e.g. through a relay. Left empty: {default}.",
        example=default,
        max_characters=2000,
        is_required=False,
    )
