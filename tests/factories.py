"""Small makers of what tests start from. Each takes what matters to the test and fills in the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from alerts.models import Channel, Severity
from budgets import ingest, rollups
from budgets.features import declare_feature
from budgets.keys import create_key
from budgets.models import Feature, IngestKey, Team

NOW = datetime(2026, 11, 21, 20, 0, 30, tzinfo=UTC)
SECRET = "whsec_" + "c2VjcmV0" * 4

_numbers = itertools.count(1)


def make_team(**overrides: Any) -> Team:
    slug = overrides.pop("slug", f"team-{next(_numbers)}")
    return Team.objects.create(slug=slug, name=overrides.pop("name", slug), **overrides)


def make_key(team: Team, *scopes: str, now: datetime = NOW) -> tuple[IngestKey, str]:
    """A key of the team and its token; with all scopes where none is named."""
    return create_key(
        team_slug=team.slug,
        name=f"key {next(_numbers)}",
        scopes=scopes or ("ingest", "read", "write"),
        actor="a test",
        now=now,
    )


def feature_document(**overrides: Any) -> dict[str, Any]:
    """What declares support chat: first token in 3 s, 99 % of it over 28 days."""
    return {
        "name": "Support chat",
        "kind": "interactive_chat",
        "components": ["model", "retrieval", "tools", "overhead"],
        "latency_budgets": [
            {
                "milestone": "first_token",
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300},
            }
        ],
        **overrides,
    }


def make_feature(
    *, team: Team | None = None, slug: str = "", now: datetime = NOW, **overrides: Any
) -> Feature:
    """Support chat, or what the overrides of its document make of it."""
    return declare_feature(
        team=team or make_team(),
        slug=slug or f"support-chat-{next(_numbers)}",
        document=feature_document(**overrides),
        actor="a test",
        now=now,
    ).feature


def redeclare(feature: Feature, *, now: datetime = NOW, **overrides: Any) -> None:
    """Declares a feature again: as support chat, or what the overrides make of it."""
    make_feature(team=feature.team, slug=feature.slug, now=now, **overrides)


def make_channel(team: Team, **overrides: Any) -> Channel:
    """A webhook that takes tickets; its URL leads nowhere unless the test says where."""
    config = {
        "url": overrides.pop("url", "http://127.0.0.1:9/hook"),
        "secret": overrides.pop("secret", SECRET),
    }
    config = overrides.pop("config", config)
    values = {"name": f"channel {next(_numbers)}", "kind": "webhook", "min_severity": Severity.TICKET}
    return Channel.objects.create(team=team, config=config, **{**values, **overrides})


def measurement(
    feature: Feature, *, ended_at: datetime, duration_ms: float, status: str = "ok", **where: str
) -> dict[str, Any]:
    """An item of a POST; `where` is component or milestone, environment, release."""
    started_at = ended_at - timedelta(milliseconds=duration_ms)
    return {
        "feature": feature.slug,
        "started_at": started_at.isoformat(),
        "duration_ms": duration_ms,
        "status": status,
        **where,
    }


def measure(team: Team, items: Iterable[Mapping[str, Any]], *, now: datetime = NOW) -> None:
    """Posts measurements and rolls them up."""
    key = (
        IngestKey.objects.filter(team=team, scopes__contains=["ingest"]).first()
        or make_key(team, "ingest")[0]
    )
    body = msgspec.json.encode({"measurements": list(items)})
    answer = ingest.accept(key=key, body=body, now=now)
    assert answer.status == 200, answer.document
    assert not answer.document["rejected"], answer.document
    while rollups.roll_up(now=now).is_more:
        pass


def make_traffic(
    feature: Feature,
    *,
    at: datetime,
    count: int,
    over: int,
    good_ms: float = 100.0,
    over_ms: float = 9_000.0,
    over_status: str = "ok",
    now: datetime | None = None,
    **where: str,
) -> None:
    """`count` measurements that ended within the minute of `at`, `over` of them too slow.

    `where` is component or milestone, environment, release.
    """
    minute = at.replace(second=0, microsecond=0)
    items = [
        measurement(
            feature,
            ended_at=minute + timedelta(seconds=59) * n / max(count, 1),
            duration_ms=over_ms if n < over else good_ms,
            status=over_status if n < over else "ok",
            **where,
        )
        for n in range(count)
    ]
    measure(feature.team, items, now=now or max(at, minute + timedelta(minutes=1)))


def item(feature: Feature | str, /, **overrides: Any) -> dict[str, Any]:
    """A sound item of `measurements` that ended 10 s before NOW; a field that is overridden by ... is left out."""
    slug = feature if isinstance(feature, str) else feature.slug
    fields = {"feature": slug, "started_at": "2026-11-21T20:00:19.750Z", "duration_ms": 250, **overrides}
    if "milestone" not in fields:
        fields = {"component": "model", **fields}
    return {name: value for name, value in fields.items() if value is not ...}


def request_item(feature: Feature | str, /, **overrides: Any) -> dict[str, Any]:
    """A sound item of `requests`: both milestones and two components, begun 10 s before NOW."""
    fields = {
        "feature": feature if isinstance(feature, str) else feature.slug,
        "started_at": "2026-11-21T20:00:20Z",
        "milestones": {"first_token": 1840, "complete": 6210},
        "components": [
            {"component": "retrieval", "offset_ms": 12, "duration_ms": 231.5},
            {"component": "model", "offset_ms": 250, "duration_ms": 1500},
        ],
        **overrides,
    }
    return {name: value for name, value in fields.items() if value is not ...}
