"""The audit log of a team, and of the whole installation for those who administer it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from budgets.contexts.audit import CSV_FIELDS, audit_page, filter_form, narrow, records
from budgets.contexts.team import team_context, team_frame
from budgets.models import AuditEntry
from budgets.pages import PageRequest, csv_cell


@login_required
@require_safe
def team_audit(request: PageRequest, slug: str, form: str = "html") -> HttpResponseBase:
    """What was changed in the team, by whom, newest first; as "csv" everything that the filter leaves."""
    frame = team_frame(request.user, slug, "team-audit")
    entries = AuditEntry.objects.filter(team=frame.team)
    if form == "csv":
        return _csv(request, entries, f"{slug}-audit")
    log = audit_page(entries, request.GET.dict(), request.GET.get("page"))
    return render(request, "budgets/team/audit.html", team_context(frame, "team-audit", log=log))


@login_required
@require_safe
def installation_audit(request: PageRequest, form: str = "html") -> HttpResponseBase:
    """What was changed in any team and in none of them, such as accounts. For superusers alone."""
    if not request.user.is_superuser:
        raise Http404("the installation's audit log is for superusers")
    entries = AuditEntry.objects.all()
    if form == "csv":
        return _csv(request, entries, "audit")
    log = audit_page(entries, request.GET.dict(), request.GET.get("page"))
    context = {"log": log, "section": "teams", "crumbs": [("Teams", "/teams/"), ("Audit log", "")]}
    return render(request, "budgets/audit.html", context)


def _csv(request: PageRequest, entries: QuerySet[AuditEntry], name: str) -> HttpResponseBase:
    found = narrow(entries, filter_form(entries, request.GET.dict()))
    response = StreamingHttpResponse(_lines(records(found)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    patch_cache_control(response, private=True, no_cache=True)
    return response


def _lines(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The head and a line a row, written out as they come."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_FIELDS)
    for row in rows:
        writer.writerow([csv_cell(value) for value in row])
        if text.tell() > 50_000:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()
