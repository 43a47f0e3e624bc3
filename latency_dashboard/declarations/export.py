"""Everything that teams have declared, as documents that `apply` takes and that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from budgets.models import Team

from . import references
from .envelopes import envelope
from .kinds import KINDS


def export(teams: Iterable[Team], *, feature: str | None = None) -> Iterator[dict[str, Any]]:
    """A document for each thing that the teams have, or for the feature of that slug and each of its rules. Secrets are
    left out: they stay as they are."""
    for team in teams:
        for kind in KINDS.values():
            for one in kind.names(team):
                spec = kind.spec_of(team, one) if feature is None or _is_of(feature, kind.name, one) else None
                if spec is None:
                    continue
                shown = kind.exported(spec)
                yield envelope(
                    kind, team.slug, one, references.escape(shown) if kind.has_references else shown
                )


def _is_of(feature: str, kind: str, name: str) -> bool:
    """Whether this is the feature itself or one of its rules, which are named "<feature>/<rule>"."""
    return name == feature if kind == "Feature" else kind == "AlertRule" and name.startswith(f"{feature}/")
