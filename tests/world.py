"""One of everything that a team has, and where each address leads to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from django.utils import timezone

from alerts.incidents import Finding, Target, open_incident
from alerts.maintenance import save_window
from alerts.models import (
    AlertRule,
    Channel,
    EscalationPolicy,
    Incident,
    MaintenanceWindow,
    Schedule,
    ScheduleOverride,
    Silence,
)
from alerts.overrides import add_override
from alerts.policies import save_policy
from alerts.schedules import save_schedule
from alerts.silences import create_silence
from budgets import ingest
from budgets.annotations import add_annotation
from budgets.models import Annotation, Batch, Feature, IngestKey, Invitation, Membership, Team, User
from tests.factories import SECRET, make_channel, make_feature, make_key, make_team, measurement
from tests.people import make_person

OF_SUPPORT = [{"name": "feature", "operator": "~", "value": "support-*"}]
OF_KIND = {
    "maintenance-windows": "nightly",
    "schedules": "primary",
    "escalation-policies": "pages",
}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
DOCUMENTS: dict[str, dict[str, Any]] = {
    "silences": {"matchers": OF_SUPPORT, "reason": "Load test", "ends_at": 0},
    "maintenance-windows": {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-22",
        "starts_at": "02:00",
        "duration_minutes": 60,
        "recurrence": "FREQ=DAILY",
    },
    "schedules": {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-02",
        "hands_over_at": "09:00",
        "people": ["member@example.com"],
    },
    "escalation-policies": {"steps": [{"notify": [{"kind": "person", "name": "member@example.com"}]}]},
}


@dataclass
class World:
    """A team with a feature, an incident, a channel, a rule, keys, a batch, a member and an invitation; and another team.

    `tokens`: what stands in the permission table's head → a key's token; none for "no key".
    """

    team: Team
    other_team: Team
    feature: Feature
    incident: Incident
    channel: Channel
    silence: Silence
    window: MaintenanceWindow
    schedule: Schedule
    override: ScheduleOverride
    policy: EscalationPolicy
    rule: AlertRule
    annotation: Annotation
    key: IngestKey
    batch: Batch
    member: User
    invitation: Invitation
    tokens: dict[str, str]

    def address(self, route: str) -> str:
        """The route, its parameters filled in with what the team has."""
        pk = {
            "/incidents": self.incident.pk,
            "/rules": self.rule.pk,
            "/annotations": self.annotation.pk,
            "/channels": self.channel.pk,
            "/keys": self.key.pk,
            "/invitations": self.invitation.pk,
            "/silences": self.silence.pk,
            "/maintenance": self.window.pk,
            "/schedules": self.schedule.pk,
            "/escalation": self.policy.pk,
        }
        parameters: dict[str, Any] = {
            "user_id": self.member.pk,
            "feature": self.feature.slug,
            "incident_id": self.incident.pk,
            "slug": self.team.slug if route.startswith("/teams/") else self.feature.slug,
            "name": self._name(route),
            "token": "unknown",
            "uidb64": "MQ",
            "trace_id": TRACE_ID,
            "number": 1,
        }
        for part, value in pk.items():
            if f"{part}/" in route:
                parameters["pk"] = value
        for part, name in OF_KIND.items():
            if f"/{part}/" in route:
                parameters["name"] = name
        parameters["silence_id"] = self.silence.pk
        parameters["override_id"] = self.override.pk
        parameters["annotation_id"] = self.annotation.pk
        if route.startswith("/features/") and "/charts/" in route:
            parameters["name"] = "allocation"
        path = re.sub(r"\{(\w+)\}", lambda match: str(parameters[match[1]]), route)
        return f"{path}{self._query(route)}"

    def _name(self, route: str) -> str:
        if "/rules/" in route:
            return self.rule.name
        return self.channel.name if "/channels/" in route else "latency"

    def _query(self, route: str) -> str:
        if "/charts/" in route:
            return "?milestone=first_token"
        if route.endswith("/batches/discard/"):
            return f"?batch={self.batch.pk}"
        if route.endswith("/timeseries"):
            return "?target=milestone:first_token&from=2026-11-21T00:00:00Z&to=2026-11-22T00:00:00Z"
        return ""

    def body(self, method: str, route: str) -> bytes:
        """What an operation of the API is sent."""
        if route.endswith("/measurements"):
            item = measurement(
                self.feature, ended_at=timezone.now(), duration_ms=900, milestone="first_token"
            )
            return msgspec.json.encode({"measurements": [item]})
        if method == "POST" and route.endswith("/overrides"):
            ends_at = (timezone.now() + timedelta(hours=1)).timestamp()
            return msgspec.json.encode({"person": None, "ends_at": ends_at})
        if route.endswith("/annotations"):
            return msgspec.json.encode({"kind": "deploy", "text": "v412", "feature": self.feature.slug})
        if route.endswith("/note"):
            return b'{"note": "Still on it"}'
        for part, document in DOCUMENTS.items():
            if method in ("POST", "PUT") and f"/{part}" in route:
                return msgspec.json.encode(document)
        if method == "PUT" and "/rules/" in route:
            return b'{"kind": "timeouts"}'
        if method == "PUT" and "/features/" in route:
            return b'{"name": "Support chat", "components": [], "latency_budgets": []}'
        if method == "PUT":
            return b'{"kind": "email", "to": ["ada@example.com"]}'
        return b""


def make_world() -> World:
    now = timezone.now()
    team, other_team = make_team(slug="assistants"), make_team(slug="others")
    feature = make_feature(team=team, now=now - timedelta(days=1))
    key, _ = make_key(team, "ingest", now=now)
    item = measurement(feature, ended_at=now, duration_ms=900, milestone="first_token", trace_id=TRACE_ID)
    answer = ingest.accept(key=key, body=msgspec.json.encode({"measurements": [item]}), now=now)
    incident = open_incident(
        target=Target(feature, "production", milestone="first_token"),
        finding=Finding(
            severity="page", rule="burn_rate", reason="burning", summary="burns", cause=None, burn_rate=15.0
        ),
        evidence=["1h/5m"],
        now=now,
    )
    assert incident is not None
    channel = make_channel(team, name="hooks", secret=SECRET)
    member = make_person("member@example.com", team=team, role=Membership.Role.VIEWER)
    DOCUMENTS["silences"]["ends_at"] = (now + timedelta(hours=8)).timestamp()
    silence = create_silence(team=team, document=DOCUMENTS["silences"], actor="a test", now=now)
    for part, save in {
        "maintenance-windows": save_window,
        "schedules": save_schedule,
        "escalation-policies": save_policy,
    }.items():
        save(team=team, name=OF_KIND[part], document=DOCUMENTS[part], actor="a test", now=now)  # type: ignore[operator]
    schedule = Schedule.objects.get(team=team)
    override = add_override(
        schedule_id=schedule.pk,
        email=None,
        starts_at=now,
        ends_at=now + timedelta(hours=1),
        actor="a test",
        now=now,
    )
    tokens = {scope: make_key(team, scope, now=now)[1] for scope in ("ingest", "read", "write")}
    return World(
        team=team,
        other_team=other_team,
        feature=feature,
        incident=incident,
        channel=channel,
        silence=silence,
        window=MaintenanceWindow.objects.get(team=team),
        schedule=schedule,
        override=override,
        policy=EscalationPolicy.objects.get(team=team),
        rule=AlertRule.objects.create(feature=feature, name="giving up", kind="timeouts"),
        annotation=add_annotation(
            team=team,
            document={"kind": "note", "text": "Cache cleared", "feature": feature.slug},
            actor="a test",
            now=now,
        ).annotation,
        key=key,
        batch=Batch.objects.get(pk=answer.batch_id),
        member=member,
        invitation=Invitation.objects.create(
            team=team,
            email="new@example.com",
            role=Membership.Role.VIEWER,
            invited_by="a test",
            created_at=now,
            expires_at=now + timedelta(days=7),
        ),
        tokens={**tokens, "another team's": make_key(other_team, now=now)[1]},
    )
