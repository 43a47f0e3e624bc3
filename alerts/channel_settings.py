"""A team's channels: saved, switched on and off, given another secret, deleted. Each change is written down."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from budgets import audit
from budgets.errors import Refusal
from budgets.models import Team, User
from budgets.storable import is_storable

from .addresses import parse_networks
from .channels import KINDS, InvalidConfig
from .channels.base import ChannelKind
from .channels.webhook import new_secret
from .fields import name_of
from .models import Channel, Severity
from .notifications import give_up_waiting
from .policies import require_unnamed
from .relocations import held_open, leads_elsewhere, relocate

# Of a team, people's own among them.
MAX_CHANNELS: Final = 200
# What a document says of every channel; the rest is its kind's.
_COMMON = frozenset({"kind", "min_severity", "enabled", "owner", "name", "leads_to"})


@dataclass(frozen=True, slots=True)
class Saved:
    """`secret` is the signing secret where it was made here: it is shown this once."""

    channel: Channel
    is_created: bool
    secret: str | None


def save_channel(
    *, team: Team, name: str, document: Any, actor: str, now: datetime, is_new: bool | None = None
) -> Saved:
    """Makes the team's channel of this name what the document says.

    {"kind": "webhook", "url": …, "secret": "whsec_…"}, {"kind": "email", "to": [address, …]} and so on, each with
    "min_severity": "ticket" or "page", "enabled", and "owner", the e-mail address of the person whose own it is.
    Left out, what is secret stays as it is, unless it would be sent elsewhere from now on, and "" removes what can be
    done without; a webhook's is made for a new channel; min_severity is "ticket", and the channel the team's. `is_new` says that there must be none of
    this name (True) or one (False). Raises Refusal, and then nothing was saved.
    """
    if not isinstance(document, dict):
        raise Refusal.of(
            "invalid_document", {"document": ["Expected an object with kind and what it needs."]}
        )
    fields: dict[str, list[str]] = {}
    is_known = is_storable(name) and Channel.objects.kept().filter(team=team, name=name.strip()).exists()
    name = name_of(name, "channel", fields, is_known=is_known)
    kind = str(document.get("kind"))
    if kind not in KINDS:
        fields["kind"] = [f"kind must be one of {', '.join(KINDS)}, got {kind!r:.100}."]
    min_severity = document.get("min_severity", Severity.TICKET)
    if min_severity not in Severity.values:
        fields["min_severity"] = [f"min_severity must be ticket or page, got {min_severity!r:.100}."]
    is_enabled = document.get("enabled", True)
    if not isinstance(is_enabled, bool):
        fields["enabled"] = [f"enabled must be true or false, got {is_enabled!r:.100}."]
    owner = _member(team, document.get("owner"))
    if owner is None and document.get("owner") is not None:
        fields["owner"] = [
            f"owner must be the e-mail address of a member of the team, got {document['owner']!r:.100}."
        ]
    if fields:
        raise Refusal.of("invalid_channel", fields)

    named = Channel.objects.kept().filter(team=team, name=name)
    given = {key: value for key, value in document.items() if key not in _COMMON}
    known = named.filter(kind=kind).first()
    kept = [field for field in KINDS[kind].secret_fields if given.get(field) is None]
    if known is not None:
        given |= {field: known.config[field] for field in kept if field in known.config}
    secret: str | None = None
    if kind == Channel.Kind.WEBHOOK and kept and known is None:
        given["secret"] = secret = new_secret()
    # Outside the transaction: a URL's name is looked up, which may take seconds.
    try:
        config = KINDS[kind].validate(given, allowed_networks=parse_networks(settings.OUTBOUND_ALLOWED_CIDRS))
    except InvalidConfig as error:
        raise Refusal.of("invalid_channel", error.fields) from error
    values = {
        "kind": kind,
        "config": config,
        "min_severity": min_severity,
        "is_enabled": is_enabled,
        "owner": owner,
    }
    with transaction.atomic():
        earlier = named.select_related("owner").first()
        # Before the channel's: whoever writes a message to it has the incident's lock by then.
        moved = held_open(earlier) if earlier and leads_elsewhere(earlier, kind, config) else []
        if known is None:
            # One after the other within a team, so that the limit holds.
            Team.objects.select_for_update(no_key=True).get(pk=team.pk)
        existing = named.select_for_update().first()
        if existing is None and is_new is False:
            raise _gone(name)
        if existing is None and Channel.objects.kept().filter(team=team).count() >= MAX_CHANNELS:
            said = f"The team has {MAX_CHANNELS} channels, and no more are possible: delete one first."
            raise Refusal.of("invalid_channel", {"name": [said]})
        before = audited(existing) if existing else None
        if existing is not None and existing.kind == kind and kept:
            # As it is by now: somebody may have exchanged it meanwhile, and was shown the new one once.
            config |= {field: existing.config[field] for field in kept if field in existing.config}
            secret = None
            _require_same_address(KINDS[kind], kept, existing.config, config)
        channel, is_created = Channel.objects.kept().update_or_create(
            team=team, name=name, defaults=values, create_defaults={**values, "created_at": now}
        )
        if is_new and not is_created:
            raise Refusal.of("invalid_channel", {"name": [f"There is a channel {name!r} already."]})
        if earlier is not None and existing is not None and earlier.pk == existing.pk:
            relocate(channel=channel, kind=existing.kind, config=existing.config, incidents=moved, now=now)
        if not channel.is_enabled:
            give_up_waiting(channel=channel, now=now)
        _record(channel, "channel.saved", actor, before, now)
    return Saved(channel, is_created, secret)


def switch_channel(*, channel_id: int, is_enabled: bool, actor: str, now: datetime) -> Channel:
    """Has the channel sent messages, or no more: then also what waited for it is given up, and others are told.

    Raises Refusal("unknown_channel") where it was deleted.
    The address is not looked at again: what leads nowhere any more can be switched off.
    """
    with transaction.atomic():
        channel = _locked(channel_id)
        before = audited(channel)
        channel.is_enabled = is_enabled
        channel.save(update_fields=["is_enabled"])
        if not is_enabled:
            give_up_waiting(channel=channel, now=now)
        _record(channel, "channel.enabled" if is_enabled else "channel.disabled", actor, before, now)
    return channel


def rotate_secret(*, channel_id: int, actor: str, now: datetime) -> str:
    """A new signing secret of a webhook, shown this once. What is sent from now on is signed with it.

    Raises Refusal("unknown_channel") where it was deleted, "no_secret" where its kind has none.
    """
    with transaction.atomic():
        channel = _locked(channel_id)
        if channel.kind != Channel.Kind.WEBHOOK:
            raise Refusal("no_secret", f"Channel {channel.name!r} is no webhook, so it signs nothing.")
        before, secret = audited(channel), new_secret()
        channel.config = {**channel.config, "secret": secret}
        channel.save(update_fields=["config"])
        _record(channel, "channel.secret_rotated", actor, before, now)
    return secret


def delete_channel(*, channel_id: int, actor: str, now: datetime) -> Channel:
    """Ends the channel. Its name is free again, its secrets are gone, what it was sent can still be read.

    What waited for it is given up; of an opening that nobody else was told of, the next sweep tells others.

    Raises Refusal: unknown_channel where it was deleted before, named_by_policy where an escalation policy names it.
    """
    with transaction.atomic():
        # No policy is saved meanwhile that names it. Before the channel, as whoever makes one has it.
        list(Team.objects.select_for_update(no_key=True, of=("self",)).filter(channels=channel_id))
        channel = _locked(channel_id)
        require_unnamed(team=channel.team, kind="channel", name=channel.name)
        before = audited(channel)
        channel.is_enabled, channel.deleted_at = False, now
        channel.config = KINDS[channel.kind].without_secrets(channel.config)
        channel.save(update_fields=["is_enabled", "deleted_at", "config"])
        give_up_waiting(channel=channel, now=now)
        audit.record(
            team=channel.team,
            actor=actor,
            action="channel.deleted",
            subject=channel.name,
            before=before,
            after=None,
            now=now,
        )
    return channel


def _member(team: Team, email: Any) -> User | None:
    if not isinstance(email, str) or "\0" in email:
        return None
    return User.objects.filter(memberships__team=team, email__iexact=email.strip()).first()


def _require_same_address(
    kind: ChannelKind, kept: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Raises Refusal where a secret that nobody typed now would be sent to another address than until now.

    Otherwise whoever may edit a channel could have its secret sent to themselves.
    """
    moved = [field for field in kind.address_fields if before.get(field) != after.get(field)]
    exposed = [field for field in kept if field in after]
    if moved and exposed:
        said = f"Give it again: {' and '.join(moved)} changes, and it would be sent there."
        raise Refusal.of("invalid_channel", {field: [said] for field in exposed})


def _locked(channel_id: int) -> Channel:
    found = Channel.objects.kept().select_for_update(of=("self",)).select_related("team", "owner")
    channel = found.filter(pk=channel_id).first()
    if channel is None:
        raise _gone("")
    return channel


def record_made(*, channel: Channel, actor: str, now: datetime) -> None:
    """Writes down a channel that nobody saved, in the transaction that made it."""
    _record(channel, "channel.saved", actor, None, now)


def _record(channel: Channel, action: str, actor: str, before: dict[str, Any] | None, now: datetime) -> None:
    audit.record(
        team=channel.team,
        actor=actor,
        action=action,
        subject=channel.name,
        before=before,
        after=audited(channel),
        now=now,
    )


def _gone(name: str) -> Refusal:
    which = f"channel {name!r}" if name else "this channel"
    return Refusal("unknown_channel", f"Somebody deleted {which} meanwhile. Nothing was changed.", status=404)


def audited(channel: Channel) -> dict[str, Any]:
    """A channel as the audit log keeps it: a URL may be a secret, so a digest tells that it was changed."""
    config = json.dumps(channel.config, sort_keys=True).encode()
    return {
        "kind": channel.kind,
        "leads_to": KINDS[channel.kind].describe(channel.config),
        "config_digest": hashlib.sha256(config).hexdigest()[:12],
        "min_severity": str(channel.min_severity),
        "enabled": channel.is_enabled,
        "owner": channel.owner.email if channel.owner else None,
    }
