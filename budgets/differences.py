"""What differs between two declared documents of a feature, field by field and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .documents import as_number
from .formats import NBSP, exact, objective
from .models import Feature, LatencyBudget, Milestone

NOTHING: Final = "none"
_FACTS: Final = {
    "name": "Name",
    "kind": "Kind",
    "description": "Description",
    "runbook_url": "Runbook",
    "archived": "Archived",
}
_BUDGET_FIELDS: Final = {
    "budget_ms": "latency budget",
    "objective": "objective",
    "window_days": "window",
    "note": "reason",
}


@dataclass(frozen=True)
class Difference:
    """A field before and after, in words. `path` names it, e.g. "first_token.allocations.tools"."""

    path: str
    label: str
    before: str
    after: str


@dataclass(frozen=True)
class _Value:
    label: str
    value: Any
    text: str


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """In the order of the document: facts, latency budgets, components. None is a feature that is not there.

    A milestone that only one of them has is one difference, and so is each component that is new or gone;
    the order of components is one of its own.
    """
    old, new = _flat(before or {}), _flat(after or {})
    for milestone in Milestone.values:
        if (milestone in old) != (milestone in new):
            for values in (old, new):
                for path in [path for path in values if path.startswith(f"{milestone}.")]:
                    del values[path]
        else:
            # Both have it, or neither: what matters is said by its fields.
            old.pop(milestone, None)
            new.pop(milestone, None)
    found = []
    for path in sorted(old | new, key=_order):
        was, now = old.get(path), new.get(path)
        if (was and was.value) != (now and now.value):
            some = now or was
            assert some is not None
            found.append(
                Difference(path, some.label, was.text if was else NOTHING, now.text if now else NOTHING)
            )
    return [*found, *_reordered(before, after)]


def milestone_words(latency_budget: Mapping[str, Any]) -> str:
    """A latency budget in one line: "3000 ms, 99 % over 28 days; model 1500 ms"."""
    text = (
        f"{_ms(latency_budget['budget_ms'])}, {objective(latency_budget['objective'])} "
        f"over {latency_budget['window_days']} days"
    )
    shares = [f"{name} {_ms(ms)}" for name, ms in latency_budget.get("allocations", {}).items()]
    return f"{text}; {', '.join(shares)}" if shares else text


def version_document(version: LatencyBudget | None) -> Mapping[str, Any] | None:
    """A version as a declared document says it; None for none and for a retirement."""
    if version is None or version.is_retired:
        return None
    assert version.objective is not None
    return {
        "milestone": version.milestone,
        "budget_ms": as_number(version.budget_ms),
        "objective": float(version.objective),
        "window_days": version.window_days,
        "note": version.note,
        "allocations": {a.component.name: as_number(a.allocated_ms) for a in version.allocations.all()},
    }


def value_words(document: Mapping[str, Any], path: str) -> str:
    """What the document says at a path of a Difference, in the words of one."""
    if path == "components":
        return ", ".join(document["components"]) or NOTHING
    found = _flat(document).get(path)
    return found.text if found else NOTHING


def _flat(document: Mapping[str, Any]) -> dict[str, _Value]:
    values: dict[str, _Value] = {}
    for field, label in _FACTS.items():
        if value := document.get(field):
            values[field] = _Value(label, value, _words(field, value))
    for one in document.get("latency_budgets", ()):
        milestone = one["milestone"]
        name = str(Milestone(milestone).label)
        values[milestone] = _Value(name, True, milestone_words(one))
        for field, label in _BUDGET_FIELDS.items():
            if (value := one.get(field)) not in (None, ""):
                values[f"{milestone}.{field}"] = _Value(f"{name}: {label}", value, _words(field, value))
        for component, ms in one.get("allocations", {}).items():
            values[f"{milestone}.allocations.{component}"] = _Value(f"{name}: {component}", ms, _ms(ms))
    for component in document.get("components", ()):
        values[f"components.{component}"] = _Value(f"Component {component}", True, "declared")
    return values


def _words(field: str, value: Any) -> str:
    match field:
        case "budget_ms":
            return _ms(value)
        case "objective":
            return objective(value)
        case "window_days":
            return f"{value}{NBSP}days"
        case "kind":
            return _kind_words(value)
        case "archived":
            return "yes"
    return str(value)


def _kind_words(kind: str) -> str:
    return str(Feature.Kind(kind).label) if kind in Feature.Kind.values else kind


def _ms(ms: float) -> str:
    return f"{exact(ms)}{NBSP}ms"


def _order(path: str) -> tuple[int, int]:
    """Facts first, then each milestone with its fields, then components; otherwise as the documents list them."""
    head, _, rest = path.partition(".")
    if head in _FACTS:
        return 0, list(_FACTS).index(head)
    if head in Milestone.values:
        field = rest.partition(".")[0]
        return 1 + Milestone.values.index(head), list(_BUDGET_FIELDS).index(
            field
        ) if field in _BUDGET_FIELDS else 9
    return 9, 0


def _reordered(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    if not before or not after:
        return []
    old, new = before["components"], after["components"]
    kept = [[name for name in names if name in other] for names, other in ((old, new), (new, old))]
    if kept[0] == kept[1]:
        return []
    return [Difference("components", "Order of components", ", ".join(old), ", ".join(new))]
