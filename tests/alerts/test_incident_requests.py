"""The slow requests of an incident: what they have in common, and the five slowest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from alerts import incidents
from alerts.contexts.incident_requests import requests_range
from alerts.incidents import Finding, Target
from alerts.models import Incident
from budgets.models import Component, Feature
from tests.budgets.test_traced_requests import a_request, call, send, trace
from tests.factories import NOW, make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature(client: Client) -> Feature:
    team = make_team(slug="assistants")
    client.force_login(make_person("viewer@example.com", team=team))
    return make_feature(team=team, slug="support-chat")


def open_one(feature: Feature, **about: Any) -> Incident:
    opened = incidents.open_incident(
        target=Target(feature=feature, environment="production", **about),
        finding=Finding(
            severity="page",
            rule="burn_rate 1h/5m",
            reason="burning",
            summary="burns",
            cause=None,
            burn_rate=15.0,
        ),
        evidence=["1h/5m"],
        now=NOW - 20 * MINUTE,
    )
    assert opened is not None
    return opened


def fill(feature: Feature) -> None:
    """From half an hour before now: 50 requests with slow tools, most of which use the new search, and 200 others."""
    requests = []
    for n in range(250):
        is_slow = n < 50
        is_new = n < 31 if is_slow else n < 66
        tools_ms = 3000 + n if is_slow else 200
        requests.append(
            a_request(
                feature,
                n,
                started_at=(NOW - 5 * MINUTE - timedelta(seconds=3 * n)).isoformat(),
                milestones={"first_token": tools_ms + 500},
                components=[call("tools", 0, tools_ms), call("model", tools_ms, 500)],
                labels={"tool": "search_v2" if is_new else "search"},
            )
        )
    long_before = (NOW - 120 * MINUTE).isoformat()
    send(
        feature,
        *requests,
        a_request(feature, 900, started_at=long_before, milestones={"first_token": 29_000}),
    )


def text_of(client: Client, address: str, **more: Any) -> str:
    answer = client.get(address, **more)
    assert answer.status_code == 200
    return answer.content.decode().replace("\N{NO-BREAK SPACE}", " ")


def test_an_incident_leads_to_what_its_slow_requests_share_and_to_the_five_slowest(
    client: Client, feature: Feature
) -> None:
    fill(feature)
    incident = open_one(feature, milestone="first_token")
    page = text_of(client, f"/incidents/{incident.pk}/")
    assert f'hx-get="/incidents/{incident.pk}/requests/"' in page
    assert f'href="/incidents/{incident.pk}/requests/"' in page
    found = text_of(client, f"/incidents/{incident.pk}/requests/", headers={"HX-Request": "true"})
    assert "62 % of slow requests have tool=search_v2; 8 % of the others do." in found
    assert found.count("/features/support-chat/traces/") == 5
    assert f"/features/support-chat/traces/{trace(49)}/?milestone=first_token" in found
    assert trace(900) not in found
    assert "<html" not in found
    whole = text_of(client, f"/incidents/{incident.pk}/requests/")
    assert "<html" in whole
    assert "tool=search_v2" in whole


def test_an_incident_of_a_component_compares_its_calls(client: Client, feature: Feature) -> None:
    fill(feature)
    tools = Component.objects.get(feature=feature, name="tools")
    incident = open_one(feature, component=tools)
    found = text_of(client, f"/incidents/{incident.pk}/requests/")
    assert "62 % of slow calls of tools have tool=search_v2; 8 % of the others do." in found
    assert f"/features/support-chat/traces/{trace(49)}/" in found


def test_of_an_incident_without_requests_it_is_said(client: Client, feature: Feature) -> None:
    incident = open_one(feature, milestone="first_token")
    found = text_of(client, f"/incidents/{incident.pk}/requests/")
    assert "No request was judged in this range." in found
    assert "No request of this range is kept." in found


def test_the_range_is_the_incidents_and_at_most_its_latest_six_hours(feature: Feature) -> None:
    incident = open_one(feature, milestone="first_token")
    at = incident.opened_at.replace(second=0)
    assert requests_range(incident, NOW) == (at - 10 * MINUTE, NOW.replace(second=0) + MINUTE)
    later = NOW + timedelta(days=3)
    start, end = requests_range(incident, later)
    assert end - start == timedelta(hours=6)
    incidents.resolve(incident_id=incident.pk, actor="a test", note="", now=NOW)
    incident.refresh_from_db()
    assert requests_range(incident, later)[1] == NOW.replace(second=0) + MINUTE
