"""What each kind of feature usually promises: where somebody who declares one starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .models import Feature, Milestone


@dataclass(frozen=True)
class Preset:
    """Latency budgets, components and allocations of a kind of feature, as part of a declared document."""

    kind: Feature.Kind
    summary: str
    components: tuple[str, ...]
    latency_budgets: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        return str(self.kind.label)

    @property
    def promises(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each latency budget with the name of its milestone."""
        return [(str(Milestone(one["milestone"]).label), one) for one in self.latency_budgets]

    def document(self) -> dict[str, Any]:
        """The declared document with everything but a name."""
        return {
            "name": "",
            "team": "",
            "kind": str(self.kind),
            "description": "",
            "archived": False,
            "components": list(self.components),
            "latency_budgets": [dict(one) for one in self.latency_budgets],
            "runbook_url": None,
        }


def _budget(milestone: str, ms: int, objective: float, note: str, **allocations: int) -> Mapping[str, Any]:
    return {
        "milestone": str(milestone),
        "budget_ms": ms,
        "objective": objective,
        "window_days": 28,
        "allocations": allocations,
        "note": note,
    }


PRESETS: Final[Mapping[str, Preset]] = {
    str(preset.kind): preset
    for preset in (
        Preset(
            Feature.Kind.INTERACTIVE_CHAT,
            "An AI chat: somebody reads while it is written, so the first token decides whether they stay.",
            ("model", "retrieval", "tools", "overhead"),
            (
                _budget(
                    Milestone.FIRST_TOKEN,
                    3_000,
                    0.99,
                    "Usual start for a chat: after 3 s without a word readers turn away.",
                    model=1_500,
                    retrieval=400,
                    tools=800,
                    overhead=300,
                ),
                _budget(
                    Milestone.COMPLETE,
                    8_000,
                    0.95,
                    "Usual start for a chat: some 400 tokens at reading speed; longer answers may take longer.",
                ),
            ),
        ),
        Preset(
            Feature.Kind.INLINE_HELP,
            "It completes what somebody is typing: shown at once or not at all.",
            ("context", "model", "ranking", "overhead"),
            (
                _budget(
                    Milestone.COMPLETE,
                    1_000,
                    0.99,
                    "Usual start for inline help: after a second people have typed on.",
                    context=150,
                    model=650,
                    ranking=100,
                    overhead=100,
                ),
            ),
        ),
        Preset(
            Feature.Kind.BACKGROUND_GENERATION,
            "Somebody waits for a document, and is told when it is ready.",
            ("retrieval", "model", "formatting", "overhead"),
            (
                _budget(
                    Milestone.COMPLETE,
                    40_000,
                    0.95,
                    "Usual start for background work: up to 40 s people wait on the page.",
                    retrieval=5_000,
                    model=32_000,
                    formatting=2_000,
                    overhead=1_000,
                ),
            ),
        ),
        Preset(
            Feature.Kind.AUTONOMOUS_WORKFLOW,
            "It plans, searches and acts by itself; nobody watches, but something depends on it.",
            ("planning", "model", "tools", "retrieval", "overhead"),
            (
                _budget(
                    Milestone.COMPLETE,
                    120_000,
                    0.9,
                    "Usual start for a workflow: two minutes, of which several rounds of the model take most.",
                    planning=10_000,
                    model=70_000,
                    tools=28_000,
                    retrieval=10_000,
                    overhead=2_000,
                ),
            ),
        ),
        Preset(
            Feature.Kind.OTHER,
            "Anything else that somebody waits for, such as a page or a search.",
            ("service", "dependencies", "overhead"),
            (
                _budget(
                    Milestone.COMPLETE,
                    2_000,
                    0.99,
                    "A start for a page that somebody waits for.",
                    service=1_100,
                    dependencies=700,
                    overhead=200,
                ),
            ),
        ),
    )
}
