"""The running server keeps to its OpenAPI document, whatever it is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from alerts.models import ScheduleOverride, Silence
from alerts.overrides import add_override
from alerts.policies import save_policy
from alerts.schedules import save_schedule
from alerts.silences import create_silence
from budgets.annotations import add_annotation
from budgets.features import instant
from budgets.models import Annotation, Feature, Sweep
from latency_dashboard.health import SWEEPS
from tests.alerts.scenes import burn, look, overrun
from tests.children import PROJECT
from tests.factories import make_channel, make_feature, make_key, make_team, make_traffic
from tests.latency_dashboard.web import web_server
from tests.people import make_person

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def key() -> str:
    """The key of a team that has a feature with measurements and an open incident."""
    now = timezone.now()
    team = make_team(slug="assistants")
    make_channel(team)
    make_channel(team, name="on-call")
    for name in ("ada", "bob"):
        make_person(f"{name}@example.com", team=team)
    document = {
        "time_zone": "Europe/Berlin",
        "starts_on": "2026-11-02",
        "hands_over_at": "09:00",
        "people": ["ada@example.com"],
    }
    for name in ("primary", "nights"):
        nights = save_schedule(team=team, name=name, document=document, actor="a test", now=now).schedule
    # Over, so that a DELETE leaves it there for the next one.
    add_override(
        schedule_id=nights.pk,
        email="bob@example.com",
        starts_at=now - timedelta(hours=2),
        ends_at=now - timedelta(hours=1),
        actor="a test",
        now=now - timedelta(hours=2),
    )
    for policy, schedule in (("primary", "primary"), ("kept", "nights")):
        steps = [{"notify": [{"kind": "schedule", "name": schedule}]}]
        save_policy(team=team, name=policy, document={"steps": steps}, actor="a test", now=now)
    support = [{"name": "feature", "operator": "~", "value": "support-*"}]
    ends_at = instant(now + timedelta(days=1))
    silence = {"matchers": support, "reason": "Load test", "ends_at": ends_at}
    create_silence(team=team, document=silence, actor="a test", now=now)
    feature: Feature = make_feature(team=team, slug="support-chat", now=now)
    deploy = {"kind": "deploy", "text": "v412", "feature": feature.slug}
    add_annotation(team=team, document=deploy, actor="a test", now=now)
    make_traffic(feature, at=now - timedelta(hours=5), count=120, over=0, milestone="first_token")
    overrun(feature, now - timedelta(minutes=1))
    burn(feature, now - timedelta(minutes=1))
    look(feature, now)
    for name in SWEEPS:
        # No worker runs here; a sweep of the near future is none that is stale.
        Sweep.objects.update_or_create(name=name, defaults={"finished_at": now + timedelta(minutes=10)})
    return make_key(team, now=now)[1]


def test_every_answer_is_one_that_the_document_tells_of(key: str, tmp_path: Path) -> None:
    now = timezone.now().replace(microsecond=0)
    instants = {"AN_HOUR_AGO": now - timedelta(hours=1), "NOW": now}
    text = CONFIG.read_text()
    for name, at in instants.items():
        text = text.replace(f'"{name}"', f'"{instant(at)}"')
    text = text.replace('"SILENCE"', str(Silence.objects.get().pk))
    text = text.replace('"ANNOTATION"', str(Annotation.objects.get().pk))
    text = text.replace('"OVERRIDE"', str(ScheduleOverride.objects.get().pk))
    config = tmp_path / CONFIG.name
    config.write_text(text)
    # Nobody answers for the made-up hosts of webhooks, and the server need not wait for that.
    with web_server(LOG_LEVEL="ERROR", RES_OPTIONS="attempts:1 timeout:1") as port:
        found = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                *("--config-file", str(config)),
                "run",
                f"http://127.0.0.1:{port}/api/v1/openapi.json",
            ],
            cwd=PROJECT,
            env=os.environ | {"API_KEY": key},
            capture_output=True,
            text=True,
            check=False,
        )
    assert found.returncode == 0, found.stdout + found.stderr
