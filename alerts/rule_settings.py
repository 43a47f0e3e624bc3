"""A feature's alert rules: saved, reset, switched, deleted. Each change is written down.

What a rule is made of is a document (alerts.rule_documents).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from budgets import audit, doorbell
from budgets.errors import Refusal
from budgets.models import Feature, Team

from . import locks
from .models import AlertRule, RuleState
from .rule_documents import TARGET, document_of, is_name, read_document, refusal
from .sights import parameters_of


@dataclass(frozen=True, slots=True)
class Saved:
    rule: AlertRule
    is_created: bool


def save_rule(
    *,
    team: Team,
    feature: str,
    name: str,
    document: Any,
    actor: str,
    now: datetime,
    is_new: bool | None = None,
) -> Saved:
    """Makes the feature's rule of this name what the document says.

    `feature` is the slug of one of the team's features. `is_new` says that there must be none of this name (True)
    or one (False). A default rule keeps its kind and what it watches. What a rule had found goes where it watches
    something else than before. Raises Refusal, and then nothing was saved.
    """
    found = feature_of(team, feature)
    with transaction.atomic():
        # An evaluation must not decide by half of a change, nor write the state of what is gone.
        locks.lock_features([found.pk])
        named = AlertRule.objects.filter(feature=found, name=name.strip())
        existing = named.first() if is_name(name) else None
        values = read_document(document, found, name, existing, now)
        if existing is None and is_new is False:
            raise _gone(found, name)
        if existing is not None and is_new:
            raise refusal({"name": [f"{found.slug} has a rule {name.strip()!r} already."]})
        before = document_of(existing) if existing else None
        rule = existing or AlertRule(feature=found, name=name.strip(), created_at=now)
        watched = watched_by(rule) if existing else None
        for field, value in values.items():
            setattr(rule, field, value)
        rule.save()
        if watched is not None and watched != watched_by(rule):
            RuleState.objects.filter(rule=rule).delete()
        _record(rule, "rule.saved", actor, before, document_of(rule), now)
        _evaluate_soon(found)
    return Saved(rule, before is None)


def read_rule(*, feature: Feature, name: str, document: Any, now: datetime) -> AlertRule:
    """The rule that the document makes, by itself: nothing is saved. Raises Refusal as `save_rule` would.

    The name may be empty, as of a rule that was not given one yet.
    """
    existing = AlertRule.objects.filter(feature=feature, name=name.strip()).first() if is_name(name) else None
    values = read_document(document, feature, name if name.strip() else "unnamed", existing, now)
    return AlertRule(feature=feature, name=name.strip(), **values)


def reset_rule(*, rule_id: int, actor: str, now: datetime) -> AlertRule:
    """Makes a default rule what it was when it was made: enabled, of its kind's severity, without a wait.

    Raises Refusal("unknown_rule") where it was deleted, and for a rule that is no default one.
    """
    rule = AlertRule.objects.filter(pk=rule_id, is_default=True).select_related("feature__team").first()
    if rule is None:
        raise _gone(None, "")
    as_it_was = {field: document_of(rule)[field] for field in TARGET}
    return save_rule(
        team=rule.feature.team,
        feature=rule.feature.slug,
        name=rule.name,
        document=as_it_was,
        actor=actor,
        now=now,
        is_new=False,
    ).rule


def switch_rule(*, rule_id: int, is_enabled: bool, actor: str, now: datetime) -> AlertRule:
    """Enables the rule, or disables it, which ends what an incident is open for by this rule alone.

    Raises Refusal("unknown_rule") where it was deleted, "invalid_rule" for one that could not fire now.
    """
    rule = AlertRule.objects.filter(pk=rule_id).select_related("feature__team").first()
    if rule is None:
        raise _gone(None, "")
    return save_rule(
        team=rule.feature.team,
        feature=rule.feature.slug,
        name=rule.name,
        document={**document_of(rule), "enabled": is_enabled},
        actor=actor,
        now=now,
        is_new=False,
    ).rule


def delete_rule(*, rule_id: int, actor: str, now: datetime) -> AlertRule:
    """Ends the rule, and with it what an incident is open for by this rule alone.

    Raises Refusal("unknown_rule") where it was deleted before, "default_rule" for one that every feature with a
    latency budget has: it would be made again, and can be switched off instead.
    """
    with transaction.atomic():
        rule = AlertRule.objects.filter(pk=rule_id).select_related("feature__team").first()
        if rule is None:
            raise _gone(None, "")
        locks.lock_features([rule.feature_id])
        if rule.is_default:
            raise Refusal(
                "default_rule",
                f"{rule.name!r} is a default rule, which every feature with a latency budget has. Switch it off instead. "
                "Nothing was changed.",
                status=409,
            )
        before = document_of(rule)
        AlertRule.objects.filter(pk=rule_id).delete()
        _record(rule, "rule.deleted", actor, before, None, now)
        _evaluate_soon(rule.feature)
    return rule


def feature_of(team: Team, slug: str) -> Feature:
    """The team's feature. Raises Refusal("unknown_feature", 404)."""
    found = (
        None if "\0" in slug else Feature.objects.filter(team=team, slug=slug).select_related("team").first()
    )
    if found is None:
        raise Refusal(
            "unknown_feature", f"There is no feature {slug!r:.210} in team {team.slug!r}.", status=404
        )
    return found


def rule_of(team: Team, feature: str, name: str) -> AlertRule:
    """The feature's rule of this name. Raises Refusal("unknown_feature" or "unknown_rule", 404)."""
    found = feature_of(team, feature)
    rule = None if "\0" in name else AlertRule.objects.filter(feature=found, name=name).first()
    if rule is None:
        raise Refusal("unknown_rule", f"{found.slug} has no rule {name!r:.210}.", status=404)
    rule.feature = found
    return rule


# What every change does


def watched_by(rule: AlertRule) -> tuple[Any, ...]:
    """What tells whether two versions of a rule watch the same: what one found says nothing of another."""
    return (*(getattr(rule, field) for field in TARGET), parameters_of(rule))


def _record(rule: AlertRule, action: str, actor: str, before: Any, after: Any, now: datetime) -> None:
    audit.record(
        team=rule.feature.team,
        actor=actor,
        action=action,
        subject=f"{rule.feature.slug}/{rule.name}",
        before=before,
        after=after,
        now=now,
    )


def _evaluate_soon(feature: Feature) -> None:
    ring: Callable[[], object] = partial(doorbell.send, "alerts.tasks.evaluate", [feature.pk])
    transaction.on_commit(ring, robust=True)


def _gone(feature: Feature | None, name: str) -> Refusal:
    which = f"rule {name!r} of {feature.slug}" if feature else "this rule"
    return Refusal("unknown_rule", f"Somebody deleted {which} meanwhile. Nothing was changed.", status=404)
