"""Channels, declared by a document in a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from budgets.models import Team

from .channel_settings import save_channel
from .channels import KINDS
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
        kept = Channel.objects.kept().select_related("owner")
        channel = kept.filter(team=team, name=name).first()
        if channel is None:
            return None
        spec = {
            "kind": str(channel.kind),
            **channel.config,
            "min_severity": str(channel.min_severity),
            "enabled": channel.is_enabled,
        }
        return {**spec, "owner": channel.owner.email} if channel.owner else spec

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        hidden = KINDS[spec["kind"]].secret_fields
        return {field: value for field, value in spec.items() if field not in hidden}

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A URL's path is hidden too: it often carries a token."""
        shown = dict(spec)
        hidden = KINDS[spec["kind"]].secret_fields
        for field in hidden:
            if field in shown:
                shown[field] = f"(hidden, {_digest(str(shown[field]))})"
        if "url" in shown and "url" not in hidden:
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
