"""How long the rules of many features take to evaluate: while all is quiet, and while everything fires."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from . import fills
from .bench import TEAM, Bench
from .report import Aim, Figure, Section
from .scale import Fill
from .status import count_queries

if TYPE_CHECKING:
    from budgets.models import Team

COMPONENTS = 5
AIM_S = 2.0

# Of each feature: enough that every rule fires, within the last minutes.
_SLOW_REQUESTS = 40
_SLOWNESS, _SWIFTNESS = 20.0, 0.5


def run(bench: Bench) -> Section:
    """Fills what the rules' windows reach, evaluates; then slows every request down and evaluates again."""
    from alerts.evaluation import evaluate
    from budgets.models import Team
    from budgets.rollups import roll_up

    features, now = bench.scale.evaluation_features, datetime.now(tz=UTC)
    bench.empty()
    team = Team.objects.create(slug=TEAM, name=TEAM)
    population = _fill(team, features, now, bench)
    rows: dict[str, dict[str, Figure]] = {}

    def measure(label: str, times: int) -> None:
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            done = evaluate(feature_ids=None, now=now)
            seconds.append(time.perf_counter() - began)
        rows[label] = {
            "": Figure.median_of(seconds, "s"),
            "conditions": Figure(done.conditions, ""),
            "states written": Figure(done.states_written, ""),
            "incidents opened": Figure(len(done.opened), ""),
        }
        bench.say(f"evaluation: {label}")

    evaluate(feature_ids=None, now=now)  # makes the default rules
    measure("all quiet", max(3, bench.scale.repetitions // 3))
    assert not rows["all quiet"]["states written"].value, "something fires that should be quiet"
    rows["all quiet"]["queries"] = Figure(count_queries(lambda: evaluate(feature_ids=None, now=now)), "")
    fills.measure(
        population,
        team,
        requests=_SLOW_REQUESTS * features,
        start=now - timedelta(minutes=4),
        end=now,
        slowness=_SLOWNESS,
        is_pending=True,
    )
    while roll_up(now=now).is_more:
        pass
    measure("everything begins to fire", 1)
    assert rows["everything begins to fire"]["incidents opened"].value >= features
    measure("everything goes on firing", max(1, bench.scale.repetitions // 5))
    return Section(
        title=f"Evaluation: all rules of {features} features with {COMPONENTS} components and 2 milestones each",
        rows=rows,
        aims=[Aim("evaluating all rules, all quiet", rows["all quiet"][""].value, "≤", AIM_S, "s")],
        notes=[
            "A feature is evaluated after each roll-up that touched it; all of them are, every ten seconds. Each series",
            "has a measurement a minute for the last hours and in every hour in which a window begins, and three days of",
            "hours.",
        ],
    )


def _fill(team: Team, features: int, now: datetime, bench: Bench) -> fills.Population:
    """Minutes wherever a window begins, and three days of hours.

    The last two hours and the running one are measured; what lies before are copies of the last whole hour.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    size = Fill(features=features, components=COMPONENTS, requests=0, raw_days=0)
    population = fills.declare(team, "rules", features=features, components=COMPONENTS, now=now)
    start = hour - 2 * fills.HOUR
    minutes = (now - start) / timedelta(minutes=1)
    fills.measure(
        population,
        team,
        requests=round(features * minutes),
        start=start,
        end=now,
        slowness=_SWIFTNESS,
        status_ratios=(1, 0, 0),  # of a thousand features there would always be some that fire
    )
    bench.say(f"evaluation: {size.series} series are measured")
    source = hour - fills.HOUR
    # Where the windows of six hours, a day and three days begin. That of two hours begins in what was measured.
    for back in (5, 23, 71):
        fills.repeat("budgets_rollup_minute", source, hour, -back * fills.HOUR, population.series_ids)
    fills.derive(now)
    for back in range(2, 74):
        fills.repeat("budgets_rollup_hour", source, hour, -back * fills.HOUR, population.series_ids)
    fills.derive_days(population.series_ids, now)
    fills.settle()
    bench.say("evaluation: three days of history are there")
    return population
