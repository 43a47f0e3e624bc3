"""What the gallery of components shows: made-up features and incidents in every state, and texts that mean harm.

Nothing here is stored, and no number of it is anybody's: the objects are those that pages are made of, built by hand.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Final

from alerts.models import Incident, Severity
from budgets.arrivals import Arrivals, Received, Rejected
from budgets.burn_rates import State, burn_rate, component_state, error_budget
from budgets.contexts.frame import View
from budgets.histogram import AtLeast
from budgets.limits import BudgetInForce
from budgets.models import Annotation, Feature, Milestone, Status, Team
from budgets.status import BurnRate, ComponentStatus, FeatureStatus
from budgets.tiles import Counts, Percentiles

HOSTILE: Final = {
    "an element": '<img src=x onerror="document.title=49"><script>document.title=49</script>',
    "a template": "{{ 7*7 }} {% now 'Y' %} ${7*7}",
    "no space": "x" * 200,
    "right to left": "دعم المحادثة السريعة \N{RIGHT-TO-LEFT OVERRIDE}gnissecorp",
    "emoji": "🧑‍💻🚀 " * 20,
}
LONG: Final = "0123456789" * 1000
_OBJECTIVE: Final = Decimal("0.99")
# No row of the database has these ids.
_team, _number = Team(pk=10**15, slug="pattern-team", name="Pattern team"), count(10**15)


def view(now: datetime) -> View:
    return View(environment="production", as_of=now, now=now)


def feature(name: str) -> Feature:
    return Feature(
        pk=next(_number), slug="pattern", name=name, team=_team, kind=Feature.Kind.INTERACTIVE_CHAT
    )


def statuses(now: datetime) -> dict[str, FeatureStatus]:
    """What a feature is called → its first token in a state."""
    found = {
        "Keeps its promise": status(now, bad=40),
        "At risk": status(now, bad=900),
        "Breached": status(now, bad=1300, p99=4100.0),
        "Among timeouts": status(now, bad=1300, p99=AtLeast(30_000.0)),
        "Low counts": status(now, bad=0, judged=1, p99=1840.0),
        "No data": status(now, bad=0, judged=0, p99=None),
        "Without a latency budget": status(now, bad=0, is_budgeted=False),
    }
    for name, text in HOSTILE.items():
        found[f"{text}" if len(text) < 200 else text[:200]] = status(now, bad=900, component=text, name=name)
    return found


def status(
    now: datetime,
    *,
    bad: int,
    judged: int = 120_000,
    p99: float | AtLeast | None = 2890.0,
    is_budgeted: bool = True,
    component: str = "retrieval",
    name: str = "",
) -> FeatureStatus:
    """A first token of which `bad` of `judged` missed 3 s; `component` is the worst one."""
    end, days = now.replace(second=0, microsecond=0) + timedelta(minutes=1), timedelta(days=28)
    counts = Counts(total=judged, judged=judged if is_budgeted else 0, good=judged - bad, over=bad)
    spent = error_budget(bad, judged, _OBJECTIVE) if is_budgeted else None
    remaining = spent.remaining_ratio if spent else None
    state = State.NO_DATA
    if remaining is not None:
        state = State.BREACHED if remaining < 0 else State.AT_RISK if remaining < 0.3 else State.OK
    limit = BudgetInForce(
        milestone=Milestone.FIRST_TOKEN,
        budget_ms=3000.0,
        objective=_OBJECTIVE,
        window_days=28,
        version=3,
        effective_from=now - days,
        allocations={"model": 1500.0, component: 400.0, "tools": 800.0},
        unallocated_ms=300.0,
        note=name,
    )
    return FeatureStatus(
        feature="pattern",
        milestone=Milestone.FIRST_TOKEN,
        environment="production",
        as_of=now,
        state=state,
        latency_budget=limit if is_budgeted else None,
        window_start=end - days,
        window_end=end,
        range_start=end - days,
        range_end=end,
        counts=counts,
        error_budget=spent,
        burn_rates=_burn_rates(now, bad, judged) if is_budgeted else None,
        percentiles_ms=Percentiles(812.0, 2210.0, p99) if judged else Percentiles(),
        mean_ms=910.0 if judged else None,
        slowest_trace_id=None,
        components=[
            _component(component, 400.0, judged, over=judged // 40, p99=455.0),
            _component("model", 1500.0, judged, over=judged // 150, p99=1490.0),
            _component("tools", 800.0, judged, over=0, p99=AtLeast(30_000.0)),
            _component("cache", None, judged, over=0, p99=16.4),
            _component("overhead", 300.0, 0, over=0, p99=None),
        ],
    )


def _component(
    name: str, allocated_ms: float | None, total: int, *, over: int, p99: float | AtLeast | None
) -> ComponentStatus:
    judged = total if allocated_ms else 0
    counts = Counts(total=total, judged=judged, good=judged - over, over=over)
    return ComponentStatus(
        component=name,
        allocated_ms=allocated_ms,
        counts=counts,
        percentiles_ms=Percentiles(12.0, 380.0, p99) if total else Percentiles(),
        mean_ms=150.0 if total else None,
        state=component_state(over, judged, total, _OBJECTIVE, allocated_ms is not None),
    )


def _burn_rates(now: datetime, bad: int, judged: int) -> list[BurnRate]:
    lengths = {"5m": 20.0, "30m": 16.0, "1h": 15.0, "2h": 8.0, "6h": 6.5, "1d": 2.0, "3d": 1.1}
    return [
        BurnRate(
            window=window,
            start=now - timedelta(hours=1),
            end=now,
            total=judged // 100,
            bad=int(bad // 100 * faster),
            burn_rate=burn_rate(int(bad // 100 * faster), judged // 100, _OBJECTIVE) if judged > 99 else None,
        )
        for window, faster in lengths.items()
    ]


def hours(share: float) -> list[Counts]:
    """A day of which every hour missed about `share`, with a gap in the middle."""
    counts = []
    for hour in range(24):
        bad = int(1000 * share * (1 + hour % 5) / 3)
        counts.append(Counts() if hour in (9, 10) else Counts(1000, judged=1000, good=1000 - bad, over=bad))
    return counts


def incidents(now: datetime) -> dict[str, Incident]:
    """What an incident shows → one that does."""
    text = "Support chat, first token: error budget burns 15.2× too fast"
    found = {
        "Open": incident(now, text),
        "Acknowledged": incident(
            now, text, state="acknowledged", acknowledged_at=now, acknowledged_by="ada@example.com"
        ),
        "Resolved": incident(
            now, text, state="resolved", resolved_at=now, resolved_reason="conditions_ended"
        ),
        "Comes and goes": incident(now, text, is_flapping=True, severity=Severity.TICKET),
        "Another environment": incident(now, text, environment="staging " * 20),
    }
    found |= {name: incident(now, hostile) for name, hostile in HOSTILE.items()}
    found["10 000 characters"] = incident(now, LONG)
    return found


def incident(now: datetime, summary: str, **overrides: object) -> Incident:
    values = {
        "pk": next(_number),
        "feature": feature(summary[:200]),
        "environment": "production",
        "milestone": Milestone.FIRST_TOKEN,
        "severity": Severity.PAGE,
        "rule": "burn_rate",
        "summary": summary,
        "opened_at": now - timedelta(minutes=12),
        "cause": {"component": summary[:200], "allocated_ms": 800, "observed_ms": 2100},
        "changes": [{"kind": "release", "at": now.isoformat(), "text": f"Release {summary}"[:300]}],
    }
    return Incident(**{**values, **overrides})


def marks(now: datetime) -> list[Annotation]:
    """One of each kind, and those that mean harm."""
    texts = {
        Annotation.Kind.RELEASE: "v412",
        Annotation.Kind.DEPLOY: "v412 on eu-west",
        Annotation.Kind.NOTE: "Cache cleared",
    }
    kept = list(texts.items())
    kept += [(Annotation.Kind.NOTE, text[:300]) for text in (*HOSTILE.values(), LONG)]
    return [
        Annotation(
            pk=next(_number),
            team=_team,
            environment="production",
            at=now - timedelta(hours=n),
            kind=kind,
            text=text,
            author="" if kind == Annotation.Kind.RELEASE else "ada@example.com",
        )
        for n, (kind, text) in enumerate(kept)
    ]


def arrivals(now: datetime) -> dict[str, Arrivals]:
    """What the start page says → what came."""

    def received(ms: float, status: Status = Status.OK, *, component: str | None = None) -> Received:
        milestone = None if component else Milestone.FIRST_TOKEN
        return Received(milestone, component, "production", ms, status, 400.0 if component else 3000.0)

    def rejected(message: str, item: str) -> Rejected:
        return Rejected(now, "chat backend", 400, "measurements[0]", "negative_duration", message, item)

    def came(*measurements: Received, rejected: tuple[Rejected, ...] = ()) -> Arrivals:
        return Arrivals(
            now if measurements else None, [*measurements], len(measurements), [*rejected], bool(measurements)
        )

    return {
        "Waiting": came(),
        "In time": came(received(1840)),
        "Over": came(received(3000.2)),
        "A timeout, and a component in time": came(
            received(30_000, Status.TIMEOUT), received(231.5, component="retrieval")
        ),
        "An error": came(received(90, Status.ERROR)),
        "Rejected": came(
            rejected=(
                rejected("duration_ms must be ≥ 0, got -3.", '{"feature":"support-chat","duration_ms":-3}'),
            )
        ),
        "Rejected, and it means harm": came(
            rejected=tuple(rejected(text, text) for text in (*HOSTILE.values(), LONG[:500]))
        ),
        "Measured long ago": Arrivals(None, [], 0, [], True),
    }
