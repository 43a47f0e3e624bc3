"""The four demo features: what is declared of each, its traffic, and the releases of its 28 days.

They are meant to differ in state: support-chat is at risk since a release that made tools and prompts
larger and was rolled back, inline-help is well within its latency budget, report-writer has used up its
error budget since its last release, and research-agent has gained a component that nobody allocated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from budgets.demo import shapes
from budgets.demo.shapes import Draw, Slowdown, Slowdowns

TEAM = "assistants"


@dataclass(frozen=True, slots=True)
class Release:
    """A release in force from a day of the story on (day 0 is the first of its 28 days)."""

    name: str
    from_day: int
    slowdowns: Slowdowns = field(default_factory=dict)
    deploy: str = ""  # what was deployed, as its annotation says; a release marks itself


@dataclass(frozen=True, slots=True)
class DemoFeature:
    """One feature: ``document`` is the body of its PUT, rates are requests a minute."""

    slug: str
    document: Mapping[str, Any]
    draw: Draw
    arrivals: str  # the trace whose minutes its traffic follows
    history_rate: float  # the mean of a week
    live_rate: float
    weekend: float  # a weekend day's traffic against a working day's
    releases: tuple[Release, ...]

    def release_on(self, day: float) -> Release:
        """The release in force on a day of the story; after its end, the last."""
        return [release for release in self.releases if release.from_day <= max(day, 0)][-1]

    @property
    def newest_release(self) -> Release:
        return self.releases[-1]

    def rhythm(self, hour: int) -> float:
        """Traffic of an hour (counted from the epoch, UTC) against the mean of its week: most at 14 h on a
        working day, little at night and at the weekend."""
        day_and_night = 1.0 + 0.75 * np.cos(2 * np.pi * (hour % 24 - 14) / 24)
        weekday = (hour // 24 + 3) % 7  # the epoch was a Thursday; Monday is 0
        return float(day_and_night * (self.weekend if weekday >= 5 else 1.0) / ((5 + 2 * self.weekend) / 7))


SUPPORT_CHAT = DemoFeature(
    slug="support-chat",
    document={
        "name": "Support chat",
        "team": TEAM,
        "kind": "interactive_chat",
        "description": "Answers customers from the help centre and their orders, streamed as it is written.",
        "components": ["model", "retrieval", "tools", "overhead"],
        "latency_budgets": [
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300},
                "note": "Readers leave after 3 s without a word. Assumes prompts below 2000 tokens and "
                "one round of tools; revisit when either grows.",
            },
            {
                "milestone": "complete",
                "budget_ms": 8000,
                "objective": 0.95,
                "window_days": 28,
                "note": "About 400 tokens at reading speed. Longer answers may take longer: hence 95 %.",
            },
        ],
        "runbook_url": "https://runbooks.example.com/support-chat",
    },
    draw=shapes.support_chat,
    arrivals="conv",
    history_rate=3.3,
    live_rate=36,
    weekend=0.6,
    releases=(
        Release("v409", 0),
        Release("v410", 8, deploy="v410: help centre indexed anew"),
        Release(
            "v411",
            15,
            {"tools": Slowdown(2.45), "model": Slowdown(1.1)},
            deploy="v411: longer prompts, orders looked up in every answer",
        ),
        Release("v412", 21, deploy="v412: v411 rolled back"),
    ),
)

INLINE_HELP = DemoFeature(
    slug="inline-help",
    document={
        "name": "Inline help",
        "team": TEAM,
        "kind": "inline_help",
        "description": "Completes what an agent is typing. Shown at once or not at all, so not streamed.",
        "components": ["context", "model", "ranking"],
        "latency_budgets": [
            {
                "milestone": "complete",
                "budget_ms": 1000,
                "objective": 0.99,
                "window_days": 7,
                "allocations": {"context": 180, "model": 750, "ranking": 60},
                "note": "After a second people have typed on and the suggestion is wrong. At most 32 tokens.",
            }
        ],
        "runbook_url": "https://runbooks.example.com/inline-help",
    },
    draw=shapes.inline_help,
    arrivals="code",
    history_rate=2.0,
    live_rate=20,
    weekend=0.4,
    releases=(Release("v30", 0), Release("v31", 12)),
)

REPORT_WRITER = DemoFeature(
    slug="report-writer",
    document={
        "name": "Report writer",
        "team": TEAM,
        "kind": "background_generation",
        "description": "Writes the weekly account report; the reader is told when it is ready.",
        "components": ["retrieval", "model", "formatting"],
        "latency_budgets": [
            {
                "milestone": "complete",
                "budget_ms": 40_000,
                "objective": 0.95,
                "window_days": 28,
                "allocations": {"retrieval": 5000, "model": 33_000, "formatting": 1500},
                "note": "Up to 40 s people wait on the page, then they come back later. Assumes 1000 tokens.",
            }
        ],
        "runbook_url": "https://runbooks.example.com/report-writer",
    },
    draw=shapes.report_writer,
    arrivals="conv",
    history_rate=0.45,
    live_rate=2,
    weekend=0.25,
    releases=(Release("v91", 0), Release("v92", 19, {"model": Slowdown(1.21)}, deploy="v92: a larger model")),
)

RESEARCH_AGENT = DemoFeature(
    slug="research-agent",
    document={
        "name": "Research agent",
        "team": TEAM,
        "kind": "autonomous_workflow",
        "description": "Plans, searches two sources at a time, and writes a briefing.",
        "components": ["plan", "search", "model"],
        "latency_budgets": [
            {
                "milestone": "complete",
                "budget_ms": 105_000,
                "objective": 0.9,
                "window_days": 28,
                "allocations": {"plan": 8500, "search": 27_000, "model": 68_000},
                "note": "Nobody watches it, but a meeting starts with it. 1.5 s are left for what comes.",
            }
        ],
        "runbook_url": "https://runbooks.example.com/research-agent",
    },
    draw=shapes.research_agent,
    arrivals="code",
    history_rate=0.22,
    live_rate=1,
    weekend=0.4,
    releases=(
        Release("r16", 0, {"guardrails": Slowdown(factor=0)}),
        Release("r17", 10, {"guardrails": Slowdown(factor=0)}),
        Release("r18", 22, deploy="r18: guardrails"),
    ),
)

FEATURES = (SUPPORT_CHAT, INLINE_HELP, REPORT_WRITER, RESEARCH_AGENT)
