"""What a channel is given to tell: one event of one incident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from alerts.wording import Story

MessageType = Literal["incident.opened", "incident.acknowledged", "incident.resolved", "incident.test"]


@dataclass(frozen=True, slots=True)
class Message:
    """One notification, the same at every try.

    `message_id` is how a receiver recognises a copy: printable ASCII without full stops, which part the
    signed content. `timestamp` is when the event happened, aware. `incident` is the incident as the
    contract of the HTTP API shows it, in JSON's own types; `story` is what people are told beside it.
    `thread_id` is the message_id of the first that this channel was sent about the incident, `channel` the
    channel's name.
    """

    message_id: str
    type: MessageType
    timestamp: datetime
    incident: Mapping[str, Any]
    story: Story
    thread_id: str
    channel: str = ""

    def __post_init__(self) -> None:
        for name in ("message_id", "thread_id"):
            if not re.fullmatch(r"[!-\-/-~]{1,200}", text := getattr(self, name)):
                raise ValueError(f"{name} must be printable ASCII without full stops, got {text!r}")
        if self.timestamp.tzinfo is None:
            raise ValueError("timestamp must be aware")


def body(message: Message) -> bytes:
    """The JSON that is signed and sent, as UTF-8; equal messages give equal bytes.

    >>> at = datetime(2026, 11, 21, 20, tzinfo=UTC)
    >>> body(Message("a1", "incident.opened", at, {"id": 7}, Story("opened", "Support chat"), "a1"))
    b'{"type":"incident.opened","timestamp":"2026-11-21T20:00:00Z","data":{"incident":{"id":7}}}'
    """
    return msgspec.json.encode(
        {
            "type": message.type,
            "timestamp": message.timestamp.astimezone(UTC),
            "data": {"incident": message.incident},
        }
    )
