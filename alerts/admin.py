"""The administration of rules and channels. Incidents and what was sent are shown and never edited here."""

# Django's admin classes are generic to the type checker alone: at run time they take no arguments.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from alerts.models import (
    AlertRule,
    Channel,
    DeliveryAttempt,
    Incident,
    IncidentEvent,
    Notification,
    RuleState,
)
from budgets.admin import ReadOnly
from budgets.admin_audit import Audited
from budgets.models import Team


class RuleStateInline(ReadOnly, admin.TabularInline):
    model = RuleState
    fields = ["key", "status", "since", "severity", "reason", "no_data_since", "evaluated_at"]


@admin.register(AlertRule)
class AlertRuleAdmin(Audited, admin.ModelAdmin):
    """Rules come with latency budgets; here they are switched off, or told to wait or to hold on."""

    audit_noun = "rule"
    inlines = [RuleStateInline]
    list_display = [
        "feature",
        "kind",
        "milestone",
        "environment",
        "is_enabled",
        "for_seconds",
        "keep_firing_seconds",
    ]
    list_filter = ["kind", "milestone", "is_enabled", "environment"]
    list_select_related = ["feature"]
    search_fields = ["feature__slug", "feature__name"]
    readonly_fields = ["feature", "kind", "milestone", "environment", "created_at"]

    def audit_team(self, obj: AlertRule) -> Team:
        return obj.feature.team

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RuleState)
class RuleStateAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["rule", "key", "status", "since", "severity", "reason", "evaluated_at"]
    list_filter = ["status", "severity"]
    list_select_related = ["rule"]
    search_fields = ["rule__feature__slug", "key"]


class IncidentEventInline(ReadOnly, admin.TabularInline):
    model = IncidentEvent
    fields = ["at", "kind", "actor", "reason", "note"]


class NotificationInline(ReadOnly, admin.TabularInline):
    model = Notification
    fields = ["channel", "event", "state", "attempts_made", "next_attempt_at", "finished_at"]
    show_change_link = True


@admin.register(Incident)
class IncidentAdmin(ReadOnly, admin.ModelAdmin):
    inlines = [IncidentEventInline, NotificationInline]
    list_display = [
        "id",
        "feature",
        "milestone",
        "component",
        "environment",
        "state",
        "severity",
        "opened_at",
        "resolved_at",
    ]
    list_filter = ["state", "severity", "environment"]
    list_select_related = ["feature", "component"]
    search_fields = ["feature__slug", "summary"]

    def view_on_site(self, obj: Incident) -> str:
        return obj.get_absolute_url()


@admin.register(Channel)
class ChannelAdmin(Audited, admin.ModelAdmin):
    """Addresses and secrets are set by pages and the API, which check them; they are not shown here."""

    audit_noun = "channel"
    list_display = ["name", "team", "kind", "min_severity", "is_enabled", "created_at", "deleted_at"]
    list_filter = ["kind", "is_enabled", "team"]
    list_select_related = ["team"]
    search_fields = ["name", "team__slug"]
    fields = ["team", "name", "kind", "min_severity", "is_enabled", "created_at", "deleted_at"]
    readonly_fields = ["team", "name", "kind", "created_at", "deleted_at"]

    def audit_team(self, obj: Channel) -> Team:
        return obj.team

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        is_kept = obj is None or obj.deleted_at is None
        return is_kept and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # it would take with it what was sent; the channel's page leaves that to be read


class DeliveryAttemptInline(ReadOnly, admin.TabularInline):
    model = DeliveryAttempt
    fields = ["number", "outcome", "started_at", "duration_ms", "status_code", "error", "excerpt"]


@admin.register(Notification)
class NotificationAdmin(ReadOnly, admin.ModelAdmin):
    inlines = [DeliveryAttemptInline]
    list_display = [
        "id",
        "incident",
        "channel",
        "event",
        "severity",
        "state",
        "attempts_made",
        "next_attempt_at",
        "created_at",
    ]
    list_filter = ["state", "event"]
    list_select_related = ["incident", "channel"]
    search_fields = ["message_id"]
    ordering = ["-id"]
