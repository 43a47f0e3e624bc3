"""An incident that another takes over ends where a program holds an alert for it, and people hear nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from alerts import incidents
from alerts.follow_ups import due
from alerts.incidents import Target
from alerts.living_alerts import due_channels
from alerts.models import FollowUp, Incident, LivingAlert, Notification
from alerts.notifications import claim_due, deliver
from budgets.models import Component, Feature
from tests.alerts.services import Services, services
from tests.alerts.test_follow_ups import MINUTE, begin, finding
from tests.alerts.test_service_channels import config_of
from tests.factories import NOW, make_channel, make_feature
from tests.people import make_person
from tests.receivers import WebhookReceiver

__all__ = ["services"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _receivers_here_may_be_reached(settings: LazySettings) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.fixture
def feature() -> Feature:
    return make_feature()


def begin_with_tools(feature: Feature) -> Incident:
    incident = incidents.open_incident(
        target=Target(feature, "production", component=Component.objects.get(feature=feature, name="tools")),
        finding=finding(severity="ticket", rule="component_overrun"),
        evidence=["component_overrun tools"],
        now=NOW,
    )
    assert incident is not None
    return incident


def send_all(now: Any) -> None:
    while claimed := claim_due(now=now, limit=1):
        assert deliver(claimed=claimed[0], now=now)


def merge_into_a_page(feature: Feature, incident: Incident) -> Incident:
    page = begin(feature, NOW + MINUTE)
    incidents.merge(incident=Incident.objects.for_step(incident.pk), into=page, now=NOW + MINUTE)
    return page


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_the_alert_of_a_merged_incident_ends_at_the_service(
    feature: Feature, services: Services, kind: str
) -> None:
    make_channel(feature.team, kind=kind, config=config_of(kind, services))
    tools = begin_with_tools(feature)
    send_all(NOW)
    (key,) = services.alerts
    page = merge_into_a_page(feature, tools)
    send_all(NOW + MINUTE)
    (other,) = set(services.alerts) - {key}
    over, burning = {"pagerduty": ("resolved", "triggered"), "opsgenie": ("closed", "open")}[kind]
    assert services.alerts == {key: over, other: burning}
    if kind == "opsgenie":
        assert f"Merged into incident {page.pk}" in services.requests[-1].json()["note"]


def test_a_webhook_hears_the_end_of_a_merged_incident_with_the_other_named(
    feature: Feature, webhook_receiver: WebhookReceiver
) -> None:
    make_channel(feature.team, url=webhook_receiver.url)
    tools = begin_with_tools(feature)
    page = merge_into_a_page(feature, tools)
    send_all(NOW + MINUTE)
    told = {(one.json()["type"], one.json()["data"]["incident"]["id"]) for one in webhook_receiver.requests}
    assert told == {
        ("incident.opened", tools.pk),
        ("incident.opened", page.pk),
        ("incident.resolved", tools.pk),
    }
    (end,) = [one.json() for one in webhook_receiver.requests if one.json()["type"] == "incident.resolved"]
    assert end["data"]["incident"]["summary"].startswith(f"Merged into incident {page.pk}. ")


def test_an_alertmanager_is_told_that_the_alert_ended_and_not_again_that_it_lives(
    feature: Feature, webhook_receiver: WebhookReceiver
) -> None:
    address = {"url": webhook_receiver.url}
    channel = make_channel(feature.team, kind="alertmanager", config=address)
    tools = begin_with_tools(feature)
    send_all(NOW)
    due_channels(now=NOW)
    assert LivingAlert.objects.get().incident == tools
    page = merge_into_a_page(feature, tools)
    webhook_receiver.clear()
    send_all(NOW + MINUTE)
    alerts = [alert for request in webhook_receiver.requests for alert in request.json()]
    (ended,) = [one for one in alerts if one["labels"].get("component") == "tools"]
    assert ended["endsAt"] == "2026-11-21T20:01:30Z"
    assert ended["annotations"]["summary"].startswith("– Merged: ")
    assert f"Merged into incident {page.pk}" in ended["annotations"]["description"]
    due_channels(now=NOW + MINUTE)
    assert LivingAlert.objects.get(channel=channel).incident == page


@pytest.mark.parametrize("kind", ["slack", "teams", "discord", "telegram"])
def test_people_hear_nothing_of_a_merge(feature: Feature, services: Services, kind: str) -> None:
    make_channel(feature.team, kind=kind, config=config_of(kind, services))
    tools = begin_with_tools(feature)
    page = merge_into_a_page(feature, tools)
    written = Notification.objects.order_by("id").values_list("incident_id", "event")
    assert list(written) == [(tools.pk, "incident.opened"), (page.pk, "incident.opened")]
    # Nor later, by the clock.
    assert FollowUp.objects.get(incident=tools).next_at is None
    assert tools.pk not in due(now=NOW + timedelta(days=2), limit=10)


def test_what_was_never_told_of_a_beginning_hears_no_end_of_a_merge(feature: Feature) -> None:
    make_channel(feature.team, min_severity="page")
    tools = begin_with_tools(feature)
    merge_into_a_page(feature, tools)
    assert not Notification.objects.filter(incident=tools).exists()


def test_an_incident_that_flaps_ends_at_once_where_another_takes_it_over(feature: Feature) -> None:
    make_channel(feature.team)
    tools = begin_with_tools(feature)
    Incident.objects.filter(pk=tools.pk).update(is_flapping=True)
    merge_into_a_page(feature, tools)
    assert Notification.objects.filter(incident=tools, event="incident.resolved").count() == 1


@pytest.mark.usefixtures("plain_static_files")
def test_the_page_of_a_merged_incident_says_who_was_told_and_who_was_left_out(
    feature: Feature, client: Client, services: Services
) -> None:
    make_channel(feature.team, name="pager")
    make_channel(feature.team, name="chat", kind="slack", config=config_of("slack", services))
    tools = begin_with_tools(feature)
    merge_into_a_page(feature, tools)
    client.force_login(make_person("kim@example.com", team=feature.team))
    text = client.get(reverse("incident", args=[tools.pk])).content.decode()
    assert "people are told by the incident that took this one over" in text
