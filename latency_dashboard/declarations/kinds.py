"""The kinds that a document can be of. A new one is a class like these and a line here."""

from __future__ import annotations

from alerts.declarations import DeclaredChannels
from budgets.declarations import DeclaredFeatures, DeclaredKind

# In the order in which an export lists them.
KINDS: dict[str, DeclaredKind] = {kind.name: kind for kind in (DeclaredFeatures(), DeclaredChannels())}
