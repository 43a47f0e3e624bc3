"""A team's keys as their page shows them, and what a new one is tried with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from budgets.models import Feature, IngestKey, Team
from budgets.snippets import Example, curl, curl_first_measurement, example_of

_SUPPORT_CHAT = """\
{"name": "Support chat", "kind": "interactive_chat",
       "components": ["model", "retrieval", "tools", "overhead"],
       "latency_budgets": [{"milestone": "first_token", "budget_ms": 3000, "objective": 0.99, "window_days": 28,
         "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300}}]}"""


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key and what it is worth: its state (for the icon), and the state in words."""

    key: IngestKey
    state: str
    word: str


@dataclass(frozen=True, slots=True)
class Snippet:
    """A command that works pasted unchanged, and what it does."""

    does: str
    command: str


def key_lines(team: Team, now: datetime) -> tuple[list[KeyLine], list[KeyLine]]:
    """The keys that work, and those that do not any more; the newest first."""
    usable, ended = [], []
    for key in team.ingest_keys.order_by("-created_at", "-pk"):
        if key.revoked_at is not None:
            ended.append(KeyLine(key, "no_data", "Revoked"))
        elif not key.is_usable(now):
            ended.append(KeyLine(key, "no_data", "Expired"))
        else:
            usable.append(KeyLine(key, "ok", "Works"))
    return usable, ended


def snippet(key: IngestKey, token: str, base: str, now: datetime) -> Snippet:
    """The first thing to do with a new key; `base` is the address of the installation, without a slash."""
    feature = Feature.objects.filter(team=key.team, archived_at=None).order_by("slug").first()
    if IngestKey.Scope.INGEST in key.scopes and feature is not None:
        return Snippet(
            f"Sends a measurement of {feature.name}",
            curl_first_measurement(example_of(feature, now), base=base, token=token),
        )
    if IngestKey.Scope.WRITE in key.scopes:
        # Slugs are shared by all teams, so the example has its team's in it.
        slug = f"{key.team.slug[:180]}-support-chat"
        return Snippet(
            "Declares a feature, support chat, with a latency budget of 3 s for the first token",
            curl(
                f"-X PUT {shlex.quote(f'{base}/api/v1/features/{slug}')}",
                token=token,
                body=f"'{_SUPPORT_CHAT}'",
            ),
        )
    if IngestKey.Scope.READ in key.scopes:
        return Snippet("Lists the team's features", curl(shlex.quote(f"{base}/api/v1/features"), token=token))
    return Snippet(
        "Nothing can be measured yet: the team has no feature. Declare one first; then this sends a first token",
        curl_first_measurement(Example("YOUR-FEATURE", "first_token", 1840.0), base=base, token=token),
    )
