"""The kinds that a document can be of. A new one is a class like these and a line here."""

from __future__ import annotations

from alerts.declarations import (
    DeclaredChannels,
    DeclaredPolicies,
    DeclaredSchedules,
    DeclaredSilences,
    DeclaredWindows,
)
from alerts.rule_declarations import DeclaredRules
from budgets.declarations import DeclaredFeatures, DeclaredKind

# In the order in which they are saved and exported: what a kind refers to comes before it.
KINDS: dict[str, DeclaredKind] = {
    kind.name: kind
    for kind in (
        DeclaredFeatures(),
        DeclaredRules(),
        DeclaredChannels(),
        DeclaredSchedules(),
        DeclaredPolicies(),
        DeclaredWindows(),
        DeclaredSilences(),
    )
}
