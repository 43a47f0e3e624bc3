"""The ways to reach a team: one module a kind, all with the same functions."""

from __future__ import annotations

from alerts.channels import email, webhook
from alerts.channels.base import ChannelKind, InvalidConfig, masked
from alerts.channels.message import Message, MessageType

KINDS: dict[str, ChannelKind] = {"webhook": webhook, "email": email}
"""The kind that a channel stores → the module that knows it."""

__all__ = ["KINDS", "ChannelKind", "InvalidConfig", "Message", "MessageType", "masked"]
