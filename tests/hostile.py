"""A team of which every name and every text means harm: to HTML, to templates, to layout, to the direction of reading."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from django.utils import timezone

from alerts.models import (
    AlertRule,
    Channel,
    EscalationPolicy,
    Incident,
    IncidentEvent,
    MaintenanceWindow,
    Schedule,
    Silence,
)
from budgets import audit, ingest, rollups
from budgets.models import Annotation, Component, Feature, IngestKey, LatencyBudget, Team
from tests.world import TRACE_ID, World, make_world

PRODUCT = "7006652"
"""What a template would make of the text, had it taken it for one of its own."""
TEXT = (
    '"><img src=x onerror=\'document.title=1\'><script>alert(1)<b onclick=x>{{ 1234*5678 }}{% now "Y" %}'
    " \N{RIGHT-TO-LEFT OVERRIDE}دعم المحادثة 🧑‍💻🚀 "
)
NAME = f"{TEXT}{'y' * 200}"[:200]
LONG = f"{TEXT}{'z' * 10_000}"[:10_000]


def make_hostile_world() -> World:
    """Everything that `make_world` has, called by NAME, and a request of hostile components, release and labels.

    Written as rows, so that also what a form refuses today is there: somebody stored it before.
    """
    world, now = make_world(), timezone.now()
    for number, component in enumerate(Component.objects.order_by("pk")):
        Component.objects.filter(pk=component.pk).update(name=f"{number}{NAME}"[:200])
    names = list(Component.objects.order_by("pk").values_list("name", flat=True))
    request = {
        "feature": world.feature.slug,
        "trace_id": TRACE_ID,
        "started_at": now.timestamp() - 10,
        "release": NAME,
        "milestones": {"first_token": 4840},
        "components": [
            {
                "component": name,
                "offset_ms": 100 * number,
                "duration_ms": 2500,
                "span_id": f"{number + 1:016x}",
            }
            for number, name in enumerate([*names, f"new{NAME}"[:200]])
        ],
        "labels": {NAME[:60]: NAME},
    }
    slow = [{**request, "trace_id": f"{number + 1:032x}"} for number in range(60)]
    elsewhere = {**request, "environment": NAME, "trace_id": "f" * 32}
    broken = {"feature": TEXT, "milestone": TEXT, "started_at": TEXT, "duration_ms": -1}
    body = {"requests": [request, elsewhere, *slow], "measurements": [broken]}
    answer = ingest.accept(key=world.key, body=msgspec.json.encode(body), now=now)
    assert answer.status == 200, answer.document
    while rollups.roll_up(now=now).is_more:
        pass
    for model in (Team, IngestKey, Channel, MaintenanceWindow, Schedule, EscalationPolicy, AlertRule):
        for row in model.objects.all():
            model.objects.filter(pk=row.pk).update(name=f"{row.pk}{NAME}"[:200])
    Feature.objects.update(name=NAME, description=LONG)
    LatencyBudget.objects.update(note=LONG, created_by=NAME)
    Silence.objects.update(reason=LONG[:500])
    Annotation.objects.exclude(kind=Annotation.Kind.RELEASE).update(text=LONG[:300], author=NAME)
    Incident.objects.update(
        summary=LONG,
        rule=NAME,
        cause={"component": names[0], "allocated_ms": 400, "observed_ms": 2500},
        changes=[{"kind": "release", "at": (now - timedelta(minutes=5)).isoformat(), "text": NAME}],
    )
    IncidentEvent.objects.update(note=LONG, actor=NAME)
    audit.record(
        team=world.team,
        actor=NAME,
        action="feature.declared",
        subject=NAME,
        before={"name": TEXT},
        after={"name": LONG, NAME: TEXT},
        now=now,
    )
    return world
