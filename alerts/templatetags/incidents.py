"""Incidents on pages of other apps: templates may show them, although budgets never imports alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.template import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts.contexts.incidents import lines_of
from alerts.models import Incident, Notification
from budgets.models import Feature, Team

register = template.Library()

SHOWN = 8
STARTING = 3


@register.simple_tag(takes_context=True)
def incident_badge(context: Context) -> SafeString | str:
    """How many incidents of the visitor's teams are not resolved; nothing where none is."""
    number = Incident.objects.visible_to(context["request"].user).unresolved().count()
    if not number:
        return ""
    return format_html(
        '<span class="badge">{}<span class="visually-hidden"> unresolved</span></span>', number
    )


@register.inclusion_tag("alerts/open_incidents.html", takes_context=True)
def open_incidents(context: Context, environment: str, as_of: datetime) -> dict[str, Any]:
    """The incidents of an environment that were unresolved at an instant and that the visitor may see."""
    found = Incident.objects.visible_to(context["request"].user).unresolved_at(as_of)
    found = found.filter(environment=environment)
    rows = list(found.select_related("feature", "component").order_by("state", "-opened_at")[: SHOWN + 1])
    # "acknowledged" sorts before "open"; what nobody has looked at yet comes first.
    rows.sort(key=lambda incident: incident.state != Incident.State.OPEN)
    return {
        "lines": lines_of(rows[:SHOWN], as_of),
        "has_more": len(rows) > SHOWN,
        "as_of": as_of,
        "is_partial": context.get("is_partial", False),
    }


@register.inclusion_tag("alerts/feature_open_incidents.html", takes_context=True)
def open_incidents_of(
    context: Context, feature: Feature, environment: str, as_of: datetime
) -> dict[str, Any]:
    """The incidents of a feature that were unresolved at an instant, newest first; nothing where there are none."""
    found = Incident.objects.filter(feature=feature, environment=environment).unresolved_at(as_of)
    rows = list(found.select_related("feature", "component").order_by("-opened_at", "-id")[:SHOWN])
    return {
        "feature": feature,
        "lines": lines_of(rows, as_of),
        "as_of": as_of,
        "is_partial": context.get("is_partial", False),
    }


@register.inclusion_tag("alerts/feature_incidents.html", takes_context=True)
def feature_incidents(
    context: Context, feature: Feature, environment: str, as_of: datetime
) -> dict[str, Any]:
    """The latest incidents of a feature in an environment up to an instant, newest first."""
    found = Incident.objects.filter(feature=feature, environment=environment, opened_at__lte=as_of)
    found = found.select_related("feature", "component")
    rows = list(found.order_by("-opened_at", "-id")[: SHOWN + 1])
    return {
        "feature": feature,
        "lines": lines_of(rows[:SHOWN], as_of),
        "has_more": len(rows) > SHOWN,
        "as_of": as_of,
        "is_partial": context.get("is_partial", False),
    }


@register.inclusion_tag("alerts/start_channels.html")
def start_channels(team: Team, is_editor: bool) -> dict[str, Any]:
    """Who is told of the team's incidents, and the way to a first channel and its test."""
    rows = list(team.channels.kept().filter(is_enabled=True).order_by("name", "pk")[: STARTING + 1])
    return {
        "team": team,
        "channels": rows[:STARTING],
        "has_more": len(rows) > STARTING,
        "is_editor": is_editor,
    }


@register.inclusion_tag("alerts/attempts.html")
def tries(notification: Notification, protocol: str) -> dict[str, Any]:
    """Every try of a message: the latest outright, those before it when asked for. Reads its attempts."""
    attempts = sorted(notification.attempts.all(), key=lambda one: one.number)
    return {
        "notification": notification,
        "protocol": protocol,
        "last": attempts[-1] if attempts else None,
        "earlier": attempts[:-1],
    }
