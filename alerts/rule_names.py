"""What an alert rule is called, what it watches in words, and which rule an incident's condition belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from budgets.models import Milestone

from .models import AlertRule, Incident

Kind = AlertRule.Kind

_EVERY: Final = {
    Kind.COMPONENT_OVERRUN: "every component with an allocation",
    Kind.TIMEOUTS: "every component",
    Kind.NO_DATA: "both milestones and every declared component",
    Kind.UNALLOCATED_COMPONENT: "every component without an allocation",
}
_SEVERITIES: Final = {
    Kind.BURN_RATE: "a page or a ticket, by how fast it burns",
    Kind.ERROR_BUDGET: "a ticket, a page once it is exhausted",
}


def title(rule: AlertRule) -> str:
    """A default rule's kind and milestone, "Burn rate, first token"; any other's name."""
    if not rule.is_default:
        return rule.name
    kind = str(Kind(rule.kind).label)
    return f"{kind}, {_milestone(rule.milestone)}" if rule.milestone else kind


def watches(rule: AlertRule) -> str:
    """ "first token", "tools", "every component with an allocation"."""
    if rule.milestone:
        return _milestone(rule.milestone)
    return rule.component or every(rule.kind)


def every(kind: str) -> str:
    """What a rule of this kind watches that names nothing."""
    return _EVERY[Kind(kind)]


def usual_severity(kind: str) -> str:
    """What a rule of this kind opens where it has no severity of its own."""
    return _SEVERITIES.get(Kind(kind), "a ticket")


def _milestone(name: str) -> str:
    return str(Milestone(name).label).lower()


def rule_behind(incident: Incident, rules: Iterable[AlertRule]) -> AlertRule | None:
    """The one of the feature's rules that opened the incident or raised it; None where it was deleted.

    An incident has the name of a condition: the name of the rule, or the kind of a default one, and a key.
    """
    return max(
        (rule for rule in rules if _is_named(incident, rule)),
        # Of "slow" and "slow tools" the longer one is meant by "slow tools p95".
        key=lambda rule: (not rule.is_default, len(rule.name)),
        default=None,
    )


def _is_named(incident: Incident, rule: AlertRule) -> bool:
    if rule.environment != incident.environment or rule.feature_id != incident.feature_id:
        return False
    if not rule.is_default:
        return incident.rule.startswith(f"{rule.name} ")
    return incident.rule.startswith(f"{rule.kind} ") and rule.milestone == incident.milestone
