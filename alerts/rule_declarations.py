"""Alert rules, declared by documents in a file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from budgets.errors import Refusal
from budgets.models import Team

from .models import AlertRule
from .rule_documents import differs_from_its_default, document_of
from .rule_settings import save_rule


class DeclaredRules:
    """What a feature's alerts watch. A rule is named "<feature>/<rule>" among those of its team.

    A default rule is there by itself: it is declared where somebody changed it.
    """

    name = "AlertRule"
    name_field = "name"
    has_references = False

    def names(self, team: Team) -> list[str]:
        rules = AlertRule.objects.filter(feature__team=team).select_related("feature")
        return [
            f"{rule.feature.slug}/{rule.name}"
            for rule in rules.order_by("feature__slug", "name")
            if differs_from_its_default(rule)
        ]

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        feature, _, rule_name = name.partition("/")
        rule = AlertRule.objects.filter(feature__team=team, feature__slug=feature, name=rule_name).first()
        return document_of(rule) if rule else None

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        feature, slash, rule_name = name.partition("/")
        problem = ""
        if not slash or not rule_name.strip():
            problem = f"A rule is named <feature>/<rule>, got {name!r:.210}."
        elif isinstance(spec, dict) and spec.get("feature", feature) != feature:
            problem = f"Its feature is {spec['feature']!r:.210} in the spec and {feature!r:.210} in the name."
        if problem:
            raise Refusal("invalid_rule", f"{problem} Nothing was saved.", fields={"name": [problem]})
        save_rule(team=team, feature=feature, name=rule_name, document=spec, actor=actor, now=now)
        return ""
