"""Declaring a feature: its components and the versions of its latency budgets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from . import audit
from .documents import (
    READ_ONLY_FIELDS,
    FeatureDocument,
    LatencyBudgetDocument,
    as_number,
    in_ms,
    read_document,
)
from .errors import Refusal
from .models import Allocation, Component, Feature, LatencyBudget, Milestone, Team

# A change is announced this long before it is in force, so that no measurement is judged by a version
# that did not exist when it was received: none may end more than 60 s ahead of its receipt.
NOTICE = timedelta(seconds=60)
# What is expected of a feature that somebody wants to make: that there is none of its name.
ABSENT = ""


@dataclass(frozen=True)
class Declared:
    feature: Feature
    is_created: bool
    is_changed: bool


@dataclass(frozen=True)
class PlannedVersion:
    """The version of a milestone's latency budget that a declaration will add."""

    milestone: str
    version: int
    effective_from: datetime
    is_retirement: bool

    @property
    def is_first(self) -> bool:
        """The first is in force always, also over what is stored already."""
        return self.version == 1


def declare_feature(
    *,
    team: Team,
    slug: str,
    document: Any,
    actor: str,
    now: datetime,
    expected_digest: str | None = None,
) -> Declared:
    """Makes the feature what the document says; the same document again changes nothing.

    A changed latency budget becomes a new version, a milestone that is missing is retired by one, a
    component that is missing is archived. Raises Refusal, and then nothing was changed.

    `expected_digest` is that of the declared document which this one was made from, or ABSENT. Where the
    feature is another by now: `changed_meanwhile`, or `slug_taken` where there should be none.
    """
    declared = read_document(slug, document)
    if declared.team and declared.team != team.slug:
        raise Refusal(
            "wrong_team",
            f"The document names team {declared.team!r}, the key belongs to {team.slug!r}. Nothing was saved.",
            fields={"team": [f"Expected {team.slug!r}, got {declared.team!r}."]},
        )
    with transaction.atomic():
        _, is_created = Feature.objects.get_or_create(
            slug=slug, defaults={"team": team, "name": declared.name.strip(), "created_at": now}
        )
        # From here to the end of the transaction nobody else changes it.
        feature = Feature.objects.select_for_update().get(slug=slug)
        if expected_digest == ABSENT and not is_created:
            raise Refusal(
                "slug_taken",
                f"There is a feature {slug!r} already. Nothing was saved.",
                status=409,
                fields={
                    "feature": [
                        "Another feature has this slug. Slugs are unique across teams; choose another."
                    ]
                },
            )
        if feature.team_id != team.pk or (expected_digest and is_created):
            raise Refusal(
                "unknown_feature", f"There is no feature {slug!r} in team {team.slug!r}.", status=404
            )
        feature.team = team
        before = None if is_created else declared_document(describe(feature))
        if expected_digest and before is not None and digest_of(before) != expected_digest:
            raise Refusal(
                "changed_meanwhile",
                f"Feature {slug!r} was changed since its document was read. Nothing was saved.",
                status=409,
            )
        is_changed = _set_facts(feature, declared, now)
        components, components_changed = _set_components(feature, declared)
        versions_changed = _set_versions(
            feature, declared, components, actor=actor, now=now, is_new=is_created
        )
        audit.record(
            team=team,
            actor=actor,
            action="feature.declared",
            subject=slug,
            before=before,
            after=declared_document(describe(feature)),
            now=now,
        )
    return Declared(feature, is_created, is_created or is_changed or components_changed or versions_changed)


def describe(feature: Feature) -> dict[str, Any]:
    """The declared document, with `feature` (the slug) and all `versions`.

    Many features are described without a query each when they come out of `with_documents`.
    """
    latest: dict[str, LatencyBudget] = {}
    versions = sorted(feature.latency_budgets.all(), key=lambda one: (one.milestone, one.version))
    for version in versions:
        latest[version.milestone] = version
    return {
        "feature": feature.slug,
        "name": feature.name,
        "team": feature.team.slug,
        "kind": feature.kind,
        "description": feature.description,
        "archived": feature.is_archived,
        "components": [c.name for c in feature.components.all() if c.state == Component.State.DECLARED],
        "latency_budgets": [
            {"milestone": milestone, **_values(latest[milestone]), "note": latest[milestone].note}
            for milestone in Milestone.values
            if milestone in latest and not latest[milestone].is_retired
        ],
        "runbook_url": feature.runbook_url or None,
        "versions": [
            {
                "milestone": version.milestone,
                "version": version.version,
                **_values(version),
                "note": version.note,
                "effective_from": instant(version.effective_from),
            }
            for version in versions
        ],
    }


def declared_document(description: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a description that somebody declared: what a PUT of it would change nothing by."""
    return {name: value for name, value in description.items() if name not in READ_ONLY_FIELDS}


def digest_of(document: Mapping[str, Any]) -> str:
    """Tells two declared documents apart; the order of keys is nothing that somebody declared.

    >>> digest_of({"name": "Chat", "kind": "other"}) == digest_of({"kind": "other", "name": "Chat"})
    True
    """
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def plan_versions(feature: Feature | None, declared: FeatureDocument, now: datetime) -> list[PlannedVersion]:
    """The versions that declaring the document now would add, in the order of milestones."""
    latest = _latest_versions(feature)
    wanted = {one.milestone: one for one in declared.latency_budgets}
    planned = []
    for milestone in Milestone.values:
        before, after = latest.get(milestone), wanted.get(milestone)
        if after is None and (before is None or before.is_retired):
            continue
        if before is not None and after is not None and _is_same(before, after):
            continue
        version = before.version + 1 if before else 1
        planned.append(PlannedVersion(milestone, version, _effective_from(before, now), after is None))
    return planned


def with_documents(features: QuerySet[Feature]) -> QuerySet[Feature]:
    """These features with all that `describe` needs, in a constant number of queries."""
    return features.select_related("team").prefetch_related(
        "components", "latency_budgets__allocations__component"
    )


def instant(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, e.g. 2026-11-21T20:00:00Z."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _values(version: LatencyBudget) -> dict[str, Any]:
    return {
        "budget_ms": as_number(version.budget_ms),
        "objective": None if version.objective is None else float(version.objective),
        "window_days": version.window_days,
        "allocations": {a.component.name: as_number(a.allocated_ms) for a in version.allocations.all()},
    }


def _set_facts(feature: Feature, declared: FeatureDocument, now: datetime) -> bool:
    wanted = {
        "name": declared.name.strip(),
        "kind": declared.kind,
        "description": declared.description,
        "runbook_url": declared.runbook_url or "",
        "archived_at": (feature.archived_at or now) if declared.archived else None,
    }
    changed = [field for field, value in wanted.items() if getattr(feature, field) != value]
    for field in changed:
        setattr(feature, field, wanted[field])
    if changed:
        feature.save(update_fields=changed)
    return bool(changed)


def _set_components(feature: Feature, declared: FeatureDocument) -> tuple[dict[str, Component], bool]:
    components = {c.name: c for c in feature.components.all()}
    wanted = {name: (Component.State.DECLARED, position) for position, name in enumerate(declared.components)}
    for name, component in components.items():
        if name not in wanted and component.state == Component.State.DECLARED:
            wanted[name] = (Component.State.ARCHIVED, component.position)
    is_changed = False
    for name, (state, position) in wanted.items():
        existing = components.get(name)
        if existing is None:
            components[name] = Component.objects.create(
                feature=feature, name=name, state=state, position=position
            )
        elif (existing.state, existing.position) != (state, position):
            existing.state, existing.position = state, position
            existing.save(update_fields=["state", "position"])
        else:
            continue
        is_changed = True
    return components, is_changed


def _set_versions(
    feature: Feature,
    declared: FeatureDocument,
    components: dict[str, Component],
    *,
    actor: str,
    now: datetime,
    is_new: bool,
) -> bool:
    wanted = {one.milestone: one for one in declared.latency_budgets}
    planned = plan_versions(feature, declared, now)
    for one in planned:
        _add_version(feature, one, wanted.get(one.milestone), components, actor=actor, now=now)
        if one.is_first and not is_new:
            # It has been in force always, so what is stored is judged anew (budgets.rebuild.rejudge).
            feature.rejudge_requested_at = now
            feature.save(update_fields=["rejudge_requested_at"])
    return bool(planned)


def _latest_versions(feature: Feature | None) -> dict[str, LatencyBudget]:
    if feature is None:
        return {}
    versions = feature.latency_budgets.prefetch_related("allocations__component").order_by("version")
    return {version.milestone: version for version in versions}


def _is_same(version: LatencyBudget, wanted: LatencyBudgetDocument) -> bool:
    return (
        version.budget_ms == in_ms(wanted.budget_ms)
        and version.objective == Decimal(repr(wanted.objective))
        and version.window_days == wanted.window_days
        and version.note == wanted.note
        and {a.component.name: a.allocated_ms for a in version.allocations.all()}
        == {name: in_ms(ms) for name, ms in wanted.allocations.items()}
    )


def _add_version(
    feature: Feature,
    planned: PlannedVersion,
    after: LatencyBudgetDocument | None,
    components: dict[str, Component],
    *,
    actor: str,
    now: datetime,
) -> None:
    version = LatencyBudget.objects.create(
        feature=feature,
        milestone=planned.milestone,
        version=planned.version,
        budget_ms=in_ms(after.budget_ms) if after else None,
        objective=Decimal(repr(after.objective)) if after else None,
        window_days=after.window_days if after else None,
        note=after.note if after else "",
        effective_from=planned.effective_from,
        created_at=now,
        created_by=actor,
    )
    Allocation.objects.bulk_create(
        Allocation(latency_budget=version, component=components[name], allocated_ms=in_ms(ms))
        for name, ms in (after.allocations.items() if after else ())
    )


def _effective_from(before: LatencyBudget | None, now: datetime) -> datetime:
    if before is None:
        return now.replace(second=0, microsecond=0)
    at = now + NOTICE
    minute = at.replace(second=0, microsecond=0)
    if minute < at:
        minute += timedelta(minutes=1)
    return max(minute, before.effective_from)
