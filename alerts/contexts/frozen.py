"""An incident of whose conditions there is no data: they neither fire nor resolve, until data comes or they give up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from alerts.models import AlertRule, Incident, RuleState
from alerts.sights import COMPONENT, Scene, about, sights_of
from budgets.limits import budgets_in_force


@dataclass(frozen=True)
class Frozen:
    """`conditions` are the names of those without data, in the order in which they fell silent.

    Where they are all that the incident is open for, `since` is when the last of them did, and `ends_at` when it ends
    as silent where no data comes. Where others have data, both are None. `ends_at` is also None where a rule is
    watched no more, which ends it sooner.
    """

    conditions: Sequence[str]
    since: datetime | None = None
    ends_at: datetime | None = None


def frozen(incident: Incident, *, now: datetime) -> Frozen | None:
    """None where every condition of the incident has data. Reads the incident's feature and component."""
    active = [
        state
        for state in RuleState.objects.filter(
            rule__feature=incident.feature_id,
            rule__environment=incident.environment,
            status__in=[RuleState.Status.FIRING, RuleState.Status.RECOVERING],
        ).select_related("rule")
        if _is_of(incident, state)
    ]
    silent = sorted(
        ((state.no_data_since, state) for state in active if state.no_data_since is not None),
        key=lambda one: (one[0], one[1].pk),
    )
    if not silent:
        return None
    names = [_name(state) for _, state in silent]
    if len(silent) < len(active):
        return Frozen(names)
    ends = _ends(incident, [state for _, state in silent], now)
    return Frozen(names, since=silent[-1][0], ends_at=max(ends) if len(ends) == len(silent) else None)


def _is_of(incident: Incident, state: RuleState) -> bool:
    if _name(state) not in incident.evidence:
        return False
    milestone, component = about(state.rule, state.key)
    if incident.component is not None:
        return component == incident.component.name
    # A page takes the conditions of the components in its latency budget.
    return component is not None or milestone == incident.milestone


def _name(state: RuleState) -> str:
    """As the incident's evidence has it."""
    return f"{state.rule.kind if state.rule.is_default else state.rule.name} {state.key}"


def _ends(incident: Incident, silent: Iterable[RuleState], now: datetime) -> list[datetime]:
    """When each gives up; those that are watched no more are left out."""
    states = list(silent)
    pairs = [about(state.rule, state.key) for state in states]
    names = {component for _, component in pairs if component is not None}
    budgets = {
        milestone: budget for (_, milestone), budget in budgets_in_force([incident.feature_id], now).items()
    }
    # What is silent was measured.
    scene = Scene(incident.feature, budgets, [f"{COMPONENT}{name}" for name in sorted(names)], names)
    found = []
    for state in states:
        rule: AlertRule = state.rule
        sight = sights_of(rule, scene)[1].get(state.key)
        if sight is not None and state.no_data_since is not None:
            found.append(state.no_data_since + sight.judge.long_window)
    return found
