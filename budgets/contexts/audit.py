"""The audit log as its page shows it: filtered by the URL, each change by its paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet

from budgets import formats
from budgets.audit import instant
from budgets.changes import Change, changes
from budgets.models import AuditEntry
from budgets.team_forms import AuditFilterForm

ENTRIES_A_PAGE = 50
# So many changes are read at a glance; more, and long ones, are folded.
_AT_A_GLANCE = 4
_ROWS_A_QUERY = 1000

CSV_FIELDS = ("at", "team", "actor", "action", "subject", "before", "after")


@dataclass(frozen=True, slots=True)
class Line:
    """An entry and what it changed."""

    entry: AuditEntry
    shown: list[Change]
    folded: list[Change]

    @property
    def words(self) -> str:
        """The action as a person reads it: "member.role_changed" → "Member role changed"."""
        return action_words(self.entry.action)


@dataclass(frozen=True, slots=True)
class AuditPage:
    form: AuditFilterForm
    page: Page[AuditEntry]
    lines: list[Line]
    is_filtered: bool


def audit_page(entries: QuerySet[AuditEntry], asked: dict[str, str], page: str | None) -> AuditPage:
    """The page of these entries that the URL asks for."""
    form = filter_form(entries, asked)
    chosen = narrow(entries, form)
    found = Paginator(chosen.select_related("team"), ENTRIES_A_PAGE).get_page(page)
    is_filtered = any(asked.get(name) for name in form.fields)
    return AuditPage(form, found, [_line(entry) for entry in found], is_filtered)


def filter_form(entries: QuerySet[AuditEntry], asked: dict[str, str]) -> AuditFilterForm:
    """The filter, which offers the actions that there are."""
    form = AuditFilterForm(asked)
    actions = entries.order_by("action").values_list("action", flat=True).distinct()
    form.fields["action"].choices = [  # type: ignore[attr-defined]
        ("", "Everything"),
        *((action, action_words(action)) for action in actions),
    ]
    return form


def narrow(entries: QuerySet[AuditEntry], form: AuditFilterForm) -> QuerySet[AuditEntry]:
    """The entries that the filter leaves; none where it asks for what cannot be."""
    if not form.is_valid():
        return entries.none()
    if action := form.cleaned_data["action"]:
        entries = entries.filter(action=action)
    if actor := form.cleaned_data["actor"]:
        entries = entries.filter(actor__icontains=actor)
    if subject := form.cleaned_data["subject"]:
        entries = entries.filter(subject__icontains=subject)
    return entries


def records(entries: QuerySet[AuditEntry]) -> Iterator[Iterable[str]]:
    """The entries as rows of CSV_FIELDS, newest first, however many they are.

    By ranges of keys and not by a cursor of the server, which a pool of connections would lose.
    """
    last: int | None = None
    while True:
        chunk = entries.select_related("team").order_by("-pk")
        rows = list((chunk if last is None else chunk.filter(pk__lt=last))[:_ROWS_A_QUERY])
        for entry in rows:
            yield (
                instant(entry.at) or "",
                entry.team.slug if entry.team else "",
                entry.actor,
                entry.action,
                entry.subject,
                _json(entry.before),
                _json(entry.after),
            )
        if len(rows) < _ROWS_A_QUERY:
            return
        last = rows[-1].pk


def action_words(action: str) -> str:
    return formats.name(action).replace(".", " ").replace("_", " ").capitalize()


def _line(entry: AuditEntry) -> Line:
    found = changes(entry.before, entry.after)
    short = [change for change in found if not change.is_long]
    shown = short if len(found) <= _AT_A_GLANCE else short[: _AT_A_GLANCE - 1]
    return Line(entry, shown, [change for change in found if change not in shown])


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)
