"""The administration of rules and channels. Incidents and what was sent are shown and never edited here."""

# Django's admin classes are generic to the type checker alone: at run time they take no arguments.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone

from alerts.models import (
    AlertRule,
    Channel,
    DeliveryAttempt,
    Incident,
    IncidentEvent,
    Notification,
    RuleState,
)
from alerts.rule_documents import read_document
from alerts.rule_settings import watched_by
from budgets.admin import ReadOnly
from budgets.admin_audit import Audited
from budgets.errors import Refusal
from budgets.models import Team


class RuleStateInline(ReadOnly, admin.TabularInline):
    model = RuleState
    fields = ["key", "status", "since", "severity", "reason", "no_data_since", "evaluated_at"]


# What a document calls otherwise than the row.
_FORM_FIELDS: Final = {"enabled": "is_enabled"}


class AlertRuleForm(forms.ModelForm):
    """Refuses what pages, API and documents refuse, each mistake at its field."""

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return given
        rule = self.instance
        name = given.get("name", rule.name)
        document = {
            "kind": rule.kind,
            "environment": rule.environment,
            "milestone": rule.milestone,
            "component": given.get("component", rule.component) or None,
            "severity": given["severity"] or None,
            "enabled": given["is_enabled"],
            "for_seconds": given["for_seconds"],
            "keep_firing_seconds": given["keep_firing_seconds"],
            "parameters": given["parameters"] if given["parameters"] is not None else {},
        }
        if AlertRule.objects.filter(feature=rule.feature, name=name.strip()).exclude(pk=rule.pk).exists():
            self.add_error("name", f"{rule.feature.slug} has a rule {name.strip()!r} already.")
            return given
        try:
            values = read_document(document, rule.feature, name, rule, timezone.now())
        except Refusal as refusal:
            for field, messages in refusal.fields.items():
                its_field = _FORM_FIELDS.get(field, field.split(".", 1)[0])
                self.add_error(its_field if its_field in self.fields else None, messages)
            return given
        return {**given, "parameters": values["parameters"]}


@admin.register(AlertRule)
class AlertRuleAdmin(Audited, admin.ModelAdmin):
    """Rules come with latency budgets; here they are switched off, or told to wait or to hold on."""

    form = AlertRuleForm
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
    readonly_fields = ["feature", "kind", "milestone", "environment", "is_default", "created_at"]

    def audit_team(self, obj: AlertRule) -> Team:
        return obj.feature.team

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """A default rule keeps its name and what it watches: evaluations know it by them."""
        fields = list(super().get_readonly_fields(request, obj))
        return [*fields, "name", "component"] if obj is not None and obj.is_default else fields

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        before = AlertRule.objects.get(pk=obj.pk)
        super().save_model(request, obj, form, change)
        if watched_by(before) != watched_by(obj):
            RuleState.objects.filter(rule=obj).delete()

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
