"""The administration of teams, promises and keys. What is measured is shown and never edited here.

Models with a composite key (measurements, spans, rollups, dirty marks) cannot be registered.
"""

# Django's admin classes are generic to the type checker alone: at run time they take no arguments.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from budgets import audit
from budgets.admin_audit import Audited
from budgets.failed_batches import put_back
from budgets.keys import revoke_key
from budgets.models import (
    Allocation,
    AuditEntry,
    Batch,
    Component,
    Feature,
    IngestKey,
    LatencyBudget,
    Membership,
    Series,
    Sweep,
    Team,
    User,
)

admin.site.site_header = "Latency Dashboard administration"
admin.site.site_title = "Latency Dashboard"
admin.site.index_title = "Administration"


class Undeletable:
    """Keeps what measurements and rollups belong to: those have no foreign keys, and would be left behind.

    A feature is archived instead, a key revoked.
    """

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnly(Undeletable):
    """Shows rows that only the product itself writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class _AddressInLowerCase:
    """People log in by an address in whatever letters; it is kept in small ones."""

    cleaned_data: dict[str, Any]

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class _PersonCreationForm(_AddressInLowerCase, AdminUserCreationForm):
    class Meta:
        model = User
        fields = ("email",)
        field_classes: dict[str, Any] = {}  # Django's own names a field that this model has not


class _PersonForm(_AddressInLowerCase, UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes: dict[str, Any] = {}  # Django's own names a field that this model has not


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ["team", "user"]


@admin.register(User)
class UserAdmin(Audited, DjangoUserAdmin):
    audit_noun = "user"
    form = _PersonForm
    add_form = _PersonCreationForm
    inlines = [MembershipInline]
    ordering = ["email"]
    list_display = ["email", "first_name", "last_name", "is_active", "is_staff", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    search_fields = ["email", "first_name", "last_name"]
    fieldsets = [
        (None, {"fields": ["email", "password", "first_name", "last_name"]}),
        ("Permissions", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "usable_password", "password1", "password2"]})]

    def audit_members(self, obj: User) -> QuerySet[Membership]:
        return Membership.objects.filter(user=obj)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        before = User.objects.filter(pk=id).values_list("password", flat=True).first()
        with transaction.atomic():
            response = super().user_change_password(request, id, form_url)
            person = User.objects.filter(pk=id).first()
            if person is not None and person.password != before:
                audit.record(
                    team=None,
                    actor=request.user.get_username(),
                    action="user.password_changed",
                    subject=person.email,
                    before=None,
                    after={"usable": person.has_usable_password()},
                    now=timezone.now(),
                )
        return response


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(Audited, DjangoGroupAdmin):
    audit_noun = "group"


@admin.register(Team)
class TeamAdmin(Audited, Undeletable, admin.ModelAdmin):
    audit_noun = "team"
    inlines = [MembershipInline]
    list_display = ["name", "slug", "created_at"]
    search_fields = ["name", "slug"]

    def audit_team(self, obj: Team) -> Team:
        return obj

    def audit_members(self, obj: Team) -> QuerySet[Membership]:
        return Membership.objects.filter(team=obj)


class ComponentInline(ReadOnly, admin.TabularInline):
    model = Component
    fields = ["name", "state", "position"]


class LatencyBudgetInline(ReadOnly, admin.TabularInline):
    model = LatencyBudget
    fields = ["milestone", "version", "budget_ms", "objective", "window_days", "effective_from", "created_by"]
    show_change_link = True


@admin.register(Feature)
class FeatureAdmin(Audited, Undeletable, admin.ModelAdmin):
    """Facts about a feature. Its components and versions come by a declaration, which judges them."""

    audit_noun = "feature"
    inlines = [ComponentInline, LatencyBudgetInline]
    list_display = ["name", "slug", "team", "kind", "created_at", "archived_at"]
    list_filter = ["kind", "team"]
    list_select_related = ["team"]
    search_fields = ["name", "slug"]
    readonly_fields = ["slug", "team", "created_at"]
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}

    def audit_team(self, obj: Feature) -> Team:
        return obj.team

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class AllocationInline(ReadOnly, admin.TabularInline):
    model = Allocation
    fields = ["component", "allocated_ms"]


@admin.register(LatencyBudget)
class LatencyBudgetAdmin(ReadOnly, admin.ModelAdmin):
    """A version is never edited: a change is a new version, which a declaration adds."""

    inlines = [AllocationInline]
    list_display = [
        "feature",
        "milestone",
        "version",
        "budget_ms",
        "objective",
        "window_days",
        "effective_from",
        "created_by",
    ]
    list_filter = ["milestone", "window_days"]
    list_select_related = ["feature"]
    search_fields = ["feature__slug", "feature__name", "note", "created_by"]
    ordering = ["-effective_from"]


@admin.register(IngestKey)
class IngestKeyAdmin(ReadOnly, admin.ModelAdmin):
    """Keys are made on a team's page or by `manage.py create_key`, which show them once; here they are revoked."""

    actions = ["revoke"]
    list_display = [
        "name",
        "prefix",
        "team",
        "scopes",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    ]
    list_filter = ["team"]
    list_select_related = ["team"]
    search_fields = ["name", "prefix", "team__slug"]
    fields = ["team", "name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("budgets.change_ingestkey")

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[IngestKey]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        actor, now = request.user.get_username(), timezone.now()
        count = sum(revoke_key(key_id=pk, actor=actor, now=now) for pk in ids)
        self.message_user(request, f"{count} of {len(ids)} keys were revoked; the others had been before.")


@admin.register(Batch)
class BatchAdmin(ReadOnly, admin.ModelAdmin):
    """Batches that could not be rolled up can be put back once what made them fail is mended."""

    actions = ["put_back"]
    list_display = [
        "id",
        "team",
        "key",
        "state",
        "measurement_count",
        "received_at",
        "rolled_up_at",
        "failed_at",
        "ended_from",
        "ended_to",
    ]
    list_filter = ["state", "team"]
    list_select_related = ["team", "key"]
    search_fields = ["idempotency_key"]
    ordering = ["-id"]
    show_full_result_count = False

    def has_put_back_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("budgets.change_batch")

    @admin.action(description="Roll up again what was set aside", permissions=["put_back"])
    def put_back(self, request: HttpRequest, queryset: QuerySet[Batch]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        count = put_back(ids, actor=request.user.get_username(), now=timezone.now())
        why = " The others were not set aside, or their measurements are gone."
        level, ending = (messages.SUCCESS, "") if count == len(ids) else (messages.WARNING, why)
        self.message_user(
            request, f"{count} of {len(ids)} batches wait to be rolled up again.{ending}", level
        )


@admin.register(Series)
class SeriesAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "feature", "milestone", "component", "environment", "release", "last_seen_on"]
    list_filter = ["milestone", "environment"]
    list_select_related = ["feature", "component"]
    search_fields = ["feature__slug", "component__name", "environment", "release"]


@admin.register(Sweep)
class SweepAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["name", "finished_at"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["at", "actor", "action", "subject", "team"]
    list_filter = ["action", "team"]
    list_select_related = ["team"]
    search_fields = ["actor", "subject"]
    ordering = ["-id"]
    show_full_result_count = False
