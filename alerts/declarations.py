"""What a team declares of its alerting by documents in files: where it is told, by whose watch, and what holds that back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from django.db.models import F
from django.utils import timezone

from budgets.features import instant
from budgets.models import Team

from .channel_settings import save_channel
from .channels import KINDS
from .fields import Fields
from .maintenance import comes_again, save_window, trouble_with, window_document
from .models import Channel, EscalationPolicy, MaintenanceWindow, Schedule, Silence
from .policies import policy_document, save_policy
from .schedules import save_schedule, schedule_document
from .silences import create_silence, end_silence, state_of


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


class _Plain:
    """A kind whose specs hold neither secrets nor references."""

    name_field = "name"
    has_references = False

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)


class DeclaredSchedules(_Plain):
    """Who is on call when. Overrides are made on the page or by the API, and stay as they are."""

    name = "Schedule"

    def names(self, team: Team) -> list[str]:
        return list(Schedule.objects.filter(team=team).order_by("name").values_list("name", flat=True))

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        schedule = Schedule.objects.filter(team=team, name=name).first()
        return None if schedule is None else schedule_document(schedule)

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        save_schedule(team=team, name=name, document=spec, actor=actor, now=now)
        return ""


class DeclaredPolicies(_Plain):
    """Whom an incident goes to, step after step."""

    name = "EscalationPolicy"

    def names(self, team: Team) -> list[str]:
        found = EscalationPolicy.objects.filter(team=team).order_by("position", "name")
        return list(found.values_list("name", flat=True))

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        policy = EscalationPolicy.objects.filter(team=team, name=name).first()
        return None if policy is None else policy_document(policy)

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        save_policy(team=team, name=name, document=spec, actor=actor, now=now)
        return ""


class DeclaredWindows(_Plain):
    """What holds notifications back again and again. One that comes no more is not exported, since it could not be made
    anew; a document that leaves it as it is changes nothing."""

    name = "MaintenanceWindow"

    def names(self, team: Team) -> list[str]:
        now = timezone.now()
        windows = MaintenanceWindow.objects.filter(team=team).order_by("name")
        return [one.name for one in windows if trouble_with(one) or comes_again(one, now)]

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        window = MaintenanceWindow.objects.filter(team=team, name=name).first()
        return None if window is None else window_document(window)

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        saved = save_window(team=team, name=name, document=spec, actor=actor, now=now)
        return "" if comes_again(saved.window, now) else "It is over."


class DeclaredSilences(_Plain):
    """What holds notifications back once. A silence has no name of its own: its reason stands for it.

    Of several of one reason the one that ends last is meant. One that is over is not exported, and a document about it
    changes nothing.
    """

    name = "Silence"
    name_field = "reason"

    def names(self, team: Team) -> list[str]:
        return list(
            Silence.objects.not_over(timezone.now())
            .filter(team=team)
            .order_by("reason")
            .values_list("reason", flat=True)
            .distinct()
        )

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        silence = self._latest(team, name)
        if silence is None:
            return None
        return {
            "matchers": silence.matchers,
            "starts_at": instant(silence.starts_at),
            "ends_at": instant(silence.ends_at),
        }

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        fields = Fields(spec, known=("matchers", "starts_at", "ends_at"), code="invalid_silence")
        matchers = fields.matchers(may_be_empty=False)
        starts_at = fields.instant("starts_at", default=now)
        ends_at = fields.instant("ends_at")
        fields.refuse()
        latest = self._latest(team, name.strip())
        if latest is not None and (latest.matchers, latest.ends_at) == (matchers, ends_at):
            is_begun = max(latest.starts_at, starts_at) <= now or "starts_at" not in spec
            if latest.starts_at == starts_at or is_begun:
                return "It is over." if latest.ends_at <= now else ""
        # What was in force stays readable: a silence is not changed but ended, and another made.
        if latest is not None and state_of(latest, now) != "past":
            end_silence(silence_id=latest.pk, actor=actor, now=now)
        document = {
            "matchers": matchers,
            "reason": name,
            "starts_at": instant(starts_at),
            "ends_at": instant(ends_at),
        }
        create_silence(team=team, document=document, actor=actor, now=now)
        return ""

    def _latest(self, team: Team, reason: str) -> Silence | None:
        found = Silence.objects.filter(team=team, reason=reason).exclude(starts_at=F("ends_at"))
        return found.order_by("-ends_at", "-pk").first()


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()[:8]
