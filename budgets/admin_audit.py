"""Changes made in the administration, written down in the audit log like any other."""

# Django's admin classes are generic to the type checker alone: at run time they take no arguments.
# mypy: disable-error-code="type-arg"

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import FieldDoesNotExist
from django.db import models, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from budgets import audit
from budgets.models import Membership, Team

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    _Base = ModelAdmin
else:
    _Base = object

# A hash of a password is a secret; when somebody last logged in is no change of anybody's.
_LEFT_OUT = frozenset({"password", "last_login"})


@dataclass(frozen=True, slots=True)
class _Snapshot:
    document: dict[str, Any]
    # By team and person: the team, the person's address and their role.
    members: dict[tuple[int, int], tuple[Team, str, str]] = field(default_factory=dict)


class Audited(_Base):
    """Before a ModelAdmin: what is added, changed and deleted by it goes into the audit log.

    Of an object, the log keeps the fields that its form shows; memberships stand in the log of their team.
    """

    audit_noun = ""

    def audit_team(self, obj: Any) -> Team | None:
        """The team in whose log it is read; None for what belongs to the installation."""
        return None

    def audit_members(self, obj: Any) -> QuerySet[Membership]:
        """The memberships that its inline form changes."""
        return Membership.objects.none()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        stored = type(obj)._base_manager.filter(pk=obj.pk).first() if change else None
        request.audit_before = stored and self._snapshot(request, stored)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        obj = type(form.instance)._base_manager.get(pk=form.instance.pk)
        before = request.audit_before  # type: ignore[attr-defined]
        self._record(request, obj, before, self._snapshot(request, obj))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            before, team, subject = self._snapshot(request, obj), self.audit_team(obj), str(obj)
            super().delete_model(request, obj)
            self._record_deleted(request, before, team, subject)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            gone = [(self._snapshot(request, obj), self.audit_team(obj), str(obj)) for obj in queryset]
            super().delete_queryset(request, queryset)
            for before, team, subject in gone:
                self._record_deleted(request, before, team, subject)

    def _snapshot(self, request: HttpRequest, obj: Any) -> _Snapshot:
        names = [
            name for name in flatten_fieldsets(self.get_fieldsets(request, obj)) if name not in _LEFT_OUT
        ]
        members = self.audit_members(obj).select_related("team", "user")
        return _Snapshot(
            {str(name): value for name in names for value in _values(obj, str(name))},
            {(one.team_id, one.user_id): (one.team, one.user.email, str(one.role)) for one in members},
        )

    def _record(self, request: HttpRequest, obj: Any, before: _Snapshot | None, after: _Snapshot) -> None:
        self._write(
            request,
            "changed" if before else "created",
            self.audit_team(obj),
            str(obj),
            before and before.document,
            after.document,
        )
        self._record_members(request, before or _Snapshot({}), after)

    def _record_deleted(
        self, request: HttpRequest, before: _Snapshot, team: Team | None, subject: str
    ) -> None:
        self._write(request, "deleted", team, subject, before.document, None)
        self._record_members(request, before, _Snapshot({}))

    def _write(
        self,
        request: HttpRequest,
        verb: str,
        team: Team | None,
        subject: str,
        before: Any,
        after: Any,
    ) -> None:
        audit.record(
            team=team,
            actor=request.user.get_username(),
            action=f"{self.audit_noun}.{verb}",
            subject=subject,
            before=before,
            after=after,
            now=timezone.now(),
        )

    def _record_members(self, request: HttpRequest, before: _Snapshot, after: _Snapshot) -> None:
        for key in sorted({*before.members, *after.members}):
            was, is_now = before.members.get(key), after.members.get(key)
            team, address, _ = is_now or was  # type: ignore[misc]
            verb = "added" if was is None else "removed" if is_now is None else "role_changed"
            audit.record(
                team=team,
                actor=request.user.get_username(),
                action=f"member.{verb}",
                subject=address,
                before=was and {"role": was[2]},
                after=is_now and {"role": is_now[2]},
                now=timezone.now(),
            )


def _values(obj: Any, name: str) -> list[Any]:
    """The value of a field as JSON, in a list; an empty one where the form shows what is no field."""
    try:
        described = obj._meta.get_field(name)
    except FieldDoesNotExist:
        return []
    if isinstance(described, models.ManyToManyField):
        return [sorted(str(one) for one in getattr(obj, name).all())]
    if isinstance(described, models.ForeignKey):
        related = getattr(obj, name)
        return [None if related is None else str(related)]
    value = described.value_from_object(obj)
    if isinstance(value, datetime):
        return [audit.instant(value)]
    is_plain = value is None or isinstance(value, bool | int | float | str | list)
    return [value if is_plain else str(value)]
