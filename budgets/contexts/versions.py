"""The versions of a feature's latency budgets: who saved them, since when they hold, and what each changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from budgets.differences import Difference, differences, milestone_words, version_document
from budgets.limits import budgets_in_force
from budgets.models import Feature, LatencyBudget

from .parts import milestone_name


@dataclass(frozen=True)
class VersionEntry:
    """One version of one milestone, against the one before."""

    milestone: str
    name: str
    version: int
    effective_from: datetime
    is_first: bool
    is_retirement: bool
    is_in_force: bool
    is_ahead: bool
    is_overtaken: bool
    """The next version took its place before it was in force."""
    note: str
    is_note_new: bool
    words: str
    """All that a first version says, or one after a retirement; and what a retirement ended."""
    differences: list[Difference]


@dataclass(frozen=True)
class Saved:
    """The versions that were saved together."""

    at: datetime
    by: str
    entries: list[VersionEntry]


@dataclass(frozen=True)
class VersionsPage:
    feature: Feature
    as_of: datetime
    saved: list[Saved]

    @property
    def title(self) -> str:
        return f"Versions of {self.feature.name} – Latency Dashboard"


def versions_page(feature: Feature, now: datetime) -> VersionsPage:
    """All versions, the latest first."""
    in_force = {
        (milestone, budget.version) for (_, milestone), budget in budgets_in_force([feature.pk], now).items()
    }
    found = LatencyBudget.objects.filter(feature=feature).prefetch_related("allocations__component")
    before: dict[str, LatencyBudget] = {}
    rows: list[tuple[LatencyBudget, VersionEntry]] = []
    for version in found.order_by("milestone", "version"):
        last = before.get(version.milestone)
        if last is not None and last.version > 1 and version.effective_from <= last.effective_from:
            rows[-1] = (last, replace(rows[-1][1], is_overtaken=True, is_ahead=False))
        rows.append((version, _entry(version, last, in_force, now)))
        before[version.milestone] = version
    # First token, then complete, within what was saved together.
    rows.sort(key=lambda row: row[1].milestone, reverse=True)
    rows.sort(key=lambda row: row[0].created_at, reverse=True)
    return VersionsPage(
        feature=feature,
        as_of=now,
        saved=[
            Saved(at, by, [entry for _, entry in group])
            for (at, by), group in groupby(rows, key=lambda row: (row[0].created_at, row[0].created_by))
        ],
    )


def _entry(
    version: LatencyBudget, before: LatencyBudget | None, in_force: set[tuple[str, int]], now: datetime
) -> VersionEntry:
    old, new = version_document(before), version_document(version)
    name = milestone_name(version.milestone)
    changed = []
    if old and new:
        for one in differences(_document(old), _document(new)):
            # The milestone is the heading, and the reason stands below in full.
            if not one.path.endswith(".note"):
                changed.append(replace(one, label=one.label.removeprefix(f"{name}: ")))
    whole = old if version.is_retired else None if old else new
    return VersionEntry(
        milestone=version.milestone,
        name=name,
        version=version.version,
        effective_from=version.effective_from,
        is_first=version.version == 1,
        is_retirement=version.is_retired,
        is_in_force=(version.milestone, version.version) in in_force,
        is_ahead=version.version > 1 and version.effective_from > now,
        is_overtaken=False,
        note=version.note,
        is_note_new=before is None or before.note != version.note,
        words=milestone_words(whole) if whole else "",
        differences=changed,
    )


def _document(budget: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"components": [], "latency_budgets": [budget]}
