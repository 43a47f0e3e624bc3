"""Channels, declared by a document in a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from budgets.models import Team

from .channel_settings import save_channel
from .models import Channel


class DeclaredChannels:
    """Where a team's incidents are told."""

    name = "Channel"
    name_field = "name"
    has_references = True

    def names(self, team: Team) -> list[str]:
        kept = Channel.objects.kept().filter(team=team)
        return list(kept.order_by("name").values_list("name", flat=True))

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        channel = Channel.objects.kept().filter(team=team, name=name).first()
        if channel is None:
            return None
        return {
            "kind": str(channel.kind),
            **channel.config,
            "min_severity": str(channel.min_severity),
            "enabled": channel.is_enabled,
        }

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return {field: value for field, value in spec.items() if field != "secret"}

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A URL's path is hidden too: it often carries a token."""
        shown = dict(spec)
        if "secret" in shown:
            shown["secret"] = f"(hidden, {_digest(shown['secret'])})"
        if "url" in shown:
            parts = urlsplit(shown["url"])
            shown["url"] = f"{parts.scheme}://{parts.netloc}/ (path hidden, {_digest(shown['url'])})"
        return shown

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        saved = save_channel(team=team, name=name, document=spec, actor=actor, now=now)
        if saved.secret is None:
            return ""
        return "It was given a signing secret that nobody has seen: declare one, or rotate it on the channel's page."


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()[:8]
