"""What there was before a migration goes on as if the version that came with it had made it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from alerts.escalation import Action
from alerts.evaluation import evaluate
from alerts.follow_ups import due, follow_up
from alerts.models import AlertRule, FollowUp, Incident, Notification

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = ("alerts", "0002_email_tests_and_deleted_channels")


def migrate(*targets: tuple[str, str]) -> Any:
    """The apps as they are then."""
    executor = MigrationExecutor(connection)
    found = list(targets) or executor.loader.graph.leaf_nodes()
    return executor.migrate(found).apps


@pytest.fixture
def apps() -> Iterator[Any]:
    try:
        # With the tables of what it needs as they are: only alerts go back.
        yield migrate(BEFORE)
    finally:
        migrate()


def test_what_is_open_is_told_of_after_an_upgrade_and_default_rules_are_not_made_twice(apps: Any) -> None:
    now = timezone.now()
    team = apps.get_model("budgets", "Team").objects.create(slug="support", name="Support")
    feature = apps.get_model("budgets", "Feature").objects.create(team=team, slug="chat", name="Chat")
    channel = apps.get_model("alerts", "Channel").objects.create(
        team=team, name="mail", kind="email", config={"to": ["kim@example.com"]}
    )
    for kind, milestone in (("burn_rate", "first_token"), ("component_overrun", None)):
        apps.get_model("alerts", "AlertRule").objects.create(feature=feature, kind=kind, milestone=milestone)

    def incident(**values: Any) -> Any:
        told = {
            "feature": feature,
            "environment": "production",
            "severity": "page",
            "rule": "r",
            "summary": "s",
        }
        made = apps.get_model("alerts", "Incident").objects.create(
            **told, opened_at=now - timedelta(hours=5), **values
        )
        apps.get_model("alerts", "Notification").objects.create(
            incident=made,
            channel=channel,
            event="incident.opened",
            severity="page",
            data={"incident": {}},
            state="delivered",
            created_at=now - timedelta(hours=5),
            finished_at=now,
        )
        return made

    still_open = incident(milestone="first_token")
    over = incident(milestone="complete", state="resolved", resolved_at=now, resolved_reason="recovered")
    migrate()
    assert list(FollowUp.objects.values_list("pk", flat=True)) == [still_open.pk]
    later = timezone.now()
    assert due(now=later, limit=9) == [still_open.pk]
    assert follow_up(incident_id=still_open.pk, now=later) == Action.REPEAT
    assert Notification.objects.filter(event="incident.repeated").get().incident_id == still_open.pk
    assert Incident.objects.get(pk=over.pk).reopenings == 0
    names = AlertRule.objects.filter(is_default=True).order_by("name").values_list("name", flat=True)
    assert list(names) == ["burn_rate first_token", "component_overrun"]
    evaluate(feature_ids=[feature.pk], now=later)
    assert AlertRule.objects.count() == 2
