"""Everything that teams have declared, as documents that `apply` takes and that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from budgets.models import Team

from . import references
from .envelopes import envelope
from .kinds import KINDS


def export(
    teams: Iterable[Team], *, kinds: Iterable[str] = KINDS, name: str | None = None
) -> Iterator[dict[str, Any]]:
    """A document for each thing of these kinds, or for the one of that name. Secrets are left out: they stay as they are."""
    for team in teams:
        for kind in map(KINDS.__getitem__, kinds):
            for one in kind.names(team):
                spec = kind.spec_of(team, one) if name in (None, one) else None
                if spec is None:
                    continue
                shown = kind.exported(spec)
                yield envelope(
                    kind, team.slug, one, references.escape(shown) if kind.has_references else shown
                )
