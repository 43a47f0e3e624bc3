"""The ways to reach people and programs: one module a kind, all with the same functions."""

from __future__ import annotations

from alerts.channels import (
    alertmanager,
    apprise,
    discord,
    email,
    opsgenie,
    pagerduty,
    slack,
    teams,
    telegram,
    webhook,
)
from alerts.channels.base import ChannelKind, InvalidConfig
from alerts.channels.fields import Field
from alerts.channels.masking import masked
from alerts.channels.message import Message, MessageType
from alerts.channels.services import FieldedKind, Service

SERVICES: dict[str, FieldedKind] = {
    "slack": slack.KIND,
    "teams": teams.KIND,
    "discord": discord.KIND,
    "telegram": telegram.KIND,
    "pagerduty": pagerduty.KIND,
    "opsgenie": opsgenie.KIND,
    "alertmanager": alertmanager.KIND,
    "apprise": apprise.KIND,
}
"""Kinds whose fields are all texts, and of which forms and schemas are made."""

KINDS: dict[str, ChannelKind] = {"webhook": webhook, "email": email, **SERVICES}
"""The kind that a channel stores → what knows it, in the order in which a person chooses."""

__all__ = [
    "KINDS",
    "SERVICES",
    "ChannelKind",
    "Field",
    "InvalidConfig",
    "Message",
    "MessageType",
    "Service",
    "masked",
]
