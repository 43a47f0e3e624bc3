"""Saving a team's channel."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Team

from .addresses import parse_networks
from .channels import KINDS, InvalidConfig
from .channels.webhook import new_secret
from .models import Channel, Severity

MAX_NAME_CHARACTERS = 200
# What a document says of every channel; the rest is its kind's.
_COMMON = frozenset({"kind", "min_severity", "enabled", "name"})


@dataclass(frozen=True, slots=True)
class Saved:
    """`secret` is the signing secret where it was made here: it is shown this once."""

    channel: Channel
    is_created: bool
    secret: str | None


def save_channel(*, team: Team, name: str, document: Any, actor: str, now: datetime) -> Saved:
    """Makes the team's channel of this name what the document says.

    {"kind": "webhook", "url": …, "secret": "whsec_…", "min_severity": "ticket" or "page", "enabled": true}.
    Left out, the secret stays as it is, and is made for a new channel; min_severity is "ticket". Raises
    Refusal, and then nothing was saved.
    """
    if not isinstance(document, dict):
        raise _refusal("invalid_document", {"document": ["Expected an object with kind, url and secret."]})
    fields: dict[str, list[str]] = {}
    if not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS or "\0" in name:
        fields["name"] = [f"A channel's name has 1 to {MAX_NAME_CHARACTERS} characters, none of them U+0000."]
    kind = str(document.get("kind"))
    if kind not in Channel.Kind.values:
        fields["kind"] = [f"kind must be one of {', '.join(Channel.Kind.values)}, got {kind!r:.100}."]
    min_severity = document.get("min_severity", Severity.TICKET)
    if min_severity not in Severity.values:
        fields["min_severity"] = [f"min_severity must be ticket or page, got {min_severity!r:.100}."]
    is_enabled = document.get("enabled", True)
    if not isinstance(is_enabled, bool):
        fields["enabled"] = [f"enabled must be true or false, got {is_enabled!r:.100}."]
    if fields:
        raise _refusal("invalid_channel", fields)

    name = name.strip()
    given = {key: value for key, value in document.items() if key not in _COMMON}
    known = Channel.objects.filter(team=team, name=name, kind=kind).first()
    secret: str | None = None
    if given.get("secret") is None:
        given["secret"] = known.config["secret"] if known else (secret := new_secret())
    # Outside the transaction: the URL's name is looked up, which may take seconds.
    try:
        config = KINDS[kind].validate(given, allowed_networks=parse_networks(settings.OUTBOUND_ALLOWED_CIDRS))
    except InvalidConfig as error:
        raise _refusal("invalid_channel", error.fields) from error
    with transaction.atomic():
        existing = Channel.objects.select_for_update().filter(team=team, name=name).first()
        before = existing and audited(existing)
        channel, is_created = Channel.objects.update_or_create(
            team=team,
            name=name,
            defaults={"kind": kind, "config": config, "min_severity": min_severity, "is_enabled": is_enabled},
            create_defaults={
                "kind": kind,
                "config": config,
                "min_severity": min_severity,
                "is_enabled": is_enabled,
                "created_at": now,
            },
        )
        audit.record(
            team=team,
            actor=actor,
            action="channel.saved",
            subject=name,
            before=before,
            after=audited(channel),
            now=now,
        )
    return Saved(channel, is_created, secret)


def audited(channel: Channel) -> dict[str, Any]:
    """A channel as the audit log keeps it: a URL may be a secret, so a digest tells that it was changed."""
    config = json.dumps(channel.config, sort_keys=True).encode()
    return {
        "kind": channel.kind,
        "leads_to": KINDS[channel.kind].describe(channel.config),
        "config_digest": hashlib.sha256(config).hexdigest()[:12],
        "min_severity": str(channel.min_severity),
        "enabled": channel.is_enabled,
    }


def _refusal(code: str, fields: dict[str, list[str]]) -> Refusal:
    said = " ".join(sentence for sentences in fields.values() for sentence in sentences)
    return Refusal(code, f"{said} Nothing was saved.", fields=fields)
