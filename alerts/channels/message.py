"""What a channel is given to tell: one event of one incident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import msgspec

from alerts.wording import UNRECOVERED, Step, Story

Happening = Step
MessageType = Literal[
    "incident.opened",
    "incident.updated",
    "incident.repeated",
    "incident.reopened",
    "incident.acknowledged",
    "incident.reminder",
    "incident.unacknowledged",
    "incident.resolved",
    "incident.test",
]
Tone = Literal["page", "ticket", "taken", "over", "silent"]
"""How a message looks: a page or a ticket that burns, one that somebody has, the end, an end in silence."""

# PagerDuty takes 255 characters and Opsgenie 512; what is longer than any real host is shortened by a digest.
MAX_KEY_CHARACTERS = 200

# The contract with programs knows four types. An incident that came back, or that nobody has any more, is open.
_TYPES: Final[Mapping[str, str]] = {
    "incident.reopened": "incident.opened",
    "incident.updated": "incident.opened",
    "incident.repeated": "incident.opened",
    "incident.unacknowledged": "incident.opened",
    "incident.reminder": "incident.acknowledged",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One notification, the same at every try.

    `message_id` is how a receiver recognises a copy: printable ASCII without full stops, which part the
    signed content. `timestamp` is when the event happened, aware. `incident` is the incident as the
    contract of the HTTP API shows it, in JSON's own types; `story` is what people are told beside it.
    `thread_id` is the message_id of the first that this channel was sent about the incident, `channel` the
    channel's name; `time_zone` is the one by whose clock people are told when something was.
    """

    message_id: str
    type: MessageType
    timestamp: datetime
    incident: Mapping[str, Any]
    story: Story
    thread_id: str
    channel: str = ""
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        for name in ("message_id", "thread_id"):
            if not re.fullmatch(r"[!-\-/-~]{1,200}", text := getattr(self, name)):
                raise ValueError(f"{name} must be printable ASCII without full stops, got {text!r}")
        if self.timestamp.tzinfo is None:
            raise ValueError("timestamp must be aware")

    @property
    def happening(self) -> Happening:
        """What happened to the incident; a test plays an opening and a resolution."""
        if self.type == "incident.test":
            return "resolved" if self.story.step == "resolved" else "opened"
        return cast(Happening, self.type.removeprefix("incident."))

    @property
    def key(self) -> str:
        """What services know the incident by: the same in all its messages, in every channel, and in no other
        installation's. Letters, digits, - and full stops, so that it may stand in a path."""
        host = re.sub(r"[^a-z0-9.]+", "-", urlsplit(self.incident["url"]).netloc.lower()).strip("-")
        which = (
            f"test-{self.thread_id}" if self.type == "incident.test" else f"incident-{self.incident['id']}"
        )
        key = f"{host}-{which}"
        if len(key) <= MAX_KEY_CHARACTERS:
            return key
        return f"{sha256(host.encode()).hexdigest()}-{which}"

    @property
    def tone(self) -> Tone:
        if self.happening == "resolved":
            return "silent" if self.story.reason in UNRECOVERED else "over"
        if self.happening in ("acknowledged", "reminder"):
            return "taken"
        return "page" if self.incident["severity"] == "page" else "ticket"


def body(message: Message) -> bytes:
    """The JSON that is signed and sent, as UTF-8; equal messages give equal bytes.

    >>> at = datetime(2026, 11, 21, 20, tzinfo=UTC)
    >>> body(Message("a1", "incident.opened", at, {"id": 7}, Story("opened", "Support chat"), "a1"))
    b'{"type":"incident.opened","timestamp":"2026-11-21T20:00:00Z","data":{"incident":{"id":7}}}'
    """
    return msgspec.json.encode(
        {
            "type": _TYPES.get(message.type, message.type),
            "timestamp": message.timestamp.astimezone(UTC),
            "data": {"incident": message.incident},
        }
    )
