"""A team's keys as their page shows them, and what a new one is tried with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from budgets.models import Feature, IngestKey, Team

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


def snippet(key: IngestKey, token: str, base: str) -> Snippet:
    """The first thing to do with a new key; `base` is the address of the installation, without a slash."""
    feature = Feature.objects.filter(team=key.team, archived_at=None).order_by("slug").first()
    if IngestKey.Scope.INGEST in key.scopes and feature is not None:
        return Snippet(
            f"Sends a first token of {feature.name} that took 1.84 s",
            _curl(token, f"-X POST {base}/api/v1/measurements", _first_token(feature.slug)),
        )
    if IngestKey.Scope.WRITE in key.scopes:
        # Slugs are shared by all teams, so the example has its team's in it.
        slug = f"{key.team.slug[:180]}-support-chat"
        return Snippet(
            "Declares a feature, support chat, with a latency budget of 3 s for the first token",
            _curl(token, f"-X PUT {base}/api/v1/features/{slug}", f"'{_SUPPORT_CHAT}'"),
        )
    if IngestKey.Scope.READ in key.scopes:
        return Snippet("Lists the team's features", _curl(token, f"{base}/api/v1/features"))
    return Snippet(
        "Nothing can be measured yet: the team has no feature. Declare one first; then this sends a first token",
        _curl(token, f"-X POST {base}/api/v1/measurements", _first_token("YOUR-FEATURE")),
    )


def _first_token(feature: str) -> str:
    """A measurement of now, whenever it is pasted: the shell fills in the instant."""
    item = f'{{"feature": "{feature}", "milestone": "first_token", "duration_ms": 1840,'
    return f"""'{{"measurements": [{item}
       "started_at": "'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"}}]}}'"""


def _curl(token: str, request: str, body: str = "") -> str:
    lines = [f"curl {request}", f'-H "Authorization: Bearer {token}"']
    if body:
        lines += ['-H "Content-Type: application/json"', f"-d {body}"]
    return " \\\n  ".join(lines)
