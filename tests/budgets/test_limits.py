"""Which limit was in force when."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from budgets.features import declare_feature
from budgets.limits import LimitHistory, budgets_in_force, limit_histories, limit_history
from budgets.models import Feature, Series
from tests.factories import NOW, feature_document, make_feature

pytestmark = pytest.mark.django_db

LONG_AGO = NOW - timedelta(days=400)
HOUR = timedelta(hours=1)


def budget(milestone: str, budget_ms: float, **allocations: float) -> dict[str, Any]:
    return {
        "milestone": milestone,
        "budget_ms": budget_ms,
        "objective": 0.99,
        "window_days": 28,
        "allocations": allocations,
    }


def save(feature: Feature, at: datetime, *latency_budgets: dict[str, Any]) -> datetime:
    """Declares other promises; gives the instant from which they are in force."""
    declare_feature(
        team=feature.team,
        slug=feature.slug,
        document=feature_document(latency_budgets=list(latency_budgets)),
        actor="a test",
        now=at,
    )
    return (at + timedelta(seconds=119)).replace(second=0, microsecond=0)


@pytest.fixture
def feature() -> Feature:
    """First token in 3 s, of which the model has 1.5 s."""
    return make_feature(latency_budgets=[budget("first_token", 3000, model=1500)])


def series(feature: Feature, *, component: str | None = None, milestone: str | None = None) -> int:
    return Series.objects.create(
        feature=feature,
        component=component and feature.components.get(name=component),
        milestone=milestone,
        environment="production",
        last_seen_on=NOW.date(),
    ).pk


def at(history: LimitHistory, *instants: datetime) -> list[float | None]:
    found = history.at(np.array([round(one.timestamp() * 1e6) for one in instants], dtype=np.int64))
    return [None if np.isnan(one) else float(one) for one in found]


def limits(feature: Feature, kind: str, name: str, *instants: datetime) -> list[float | None]:
    """The limits by both ways of asking, which must agree."""
    pk = series(feature, **{kind: name})
    by_name = at(limit_history(feature.pk, kind, name), *instants)
    histories = limit_histories([pk])
    assert by_name == (at(histories[pk], *instants) if pk in histories else [None] * len(instants))
    return by_name


def test_a_first_version_has_been_in_force_always(feature: Feature) -> None:
    assert limits(feature, "milestone", "first_token", LONG_AGO, NOW, NOW + HOUR) == [3000, 3000, 3000]
    assert limits(feature, "component", "model", LONG_AGO, NOW) == [1500, 1500]


def test_a_later_version_is_in_force_from_its_minute_on(feature: Feature) -> None:
    begins = save(feature, NOW, budget("first_token", 2000, model=1000))
    before = begins - timedelta(microseconds=1)
    assert limits(feature, "milestone", "first_token", NOW, before, begins) == [3000, 3000, 2000]
    assert limits(feature, "component", "model", NOW, before, begins) == [1500, 1500, 1000]


def test_what_was_never_promised_has_no_limit(feature: Feature) -> None:
    assert limits(feature, "milestone", "complete", LONG_AGO, NOW) == [None, None]
    assert limits(feature, "component", "tools", LONG_AGO, NOW) == [None, None]


def test_a_retired_milestone_has_no_limit_until_it_is_back(feature: Feature) -> None:
    retired = save(feature, NOW)
    back = save(feature, NOW + HOUR, budget("first_token", 2500, model=500))
    instants = (NOW, retired, back - timedelta(seconds=1), back)
    assert limits(feature, "milestone", "first_token", *instants) == [3000, None, None, 2500]
    assert limits(feature, "component", "model", *instants) == [1500, None, None, 500]


def test_a_component_that_lost_its_allocation_has_no_limit_from_then_on(feature: Feature) -> None:
    begins = save(feature, NOW, budget("first_token", 3000, tools=100))
    assert limits(feature, "component", "model", NOW, begins) == [1500, None]
    assert limits(feature, "component", "tools", NOW, begins) == [None, 100]


def test_a_component_that_moves_to_another_milestone_takes_the_limit_of_the_new_one_from_then_on(
    feature: Feature,
) -> None:
    save(feature, NOW, budget("first_token", 3000, model=1500), budget("complete", 8000))
    moved = save(feature, NOW + HOUR, budget("first_token", 3000), budget("complete", 8000, model=2000))
    assert limits(feature, "component", "model", NOW, moved - timedelta(seconds=1), moved) == [
        1500,
        1500,
        2000,
    ]


def test_a_milestone_that_comes_later_does_not_rewrite_what_a_component_was_judged_by(
    feature: Feature,
) -> None:
    """Its first version has been in force always, but the other's was there first."""
    moved = save(feature, NOW, budget("first_token", 3000), budget("complete", 8000, model=2000))
    assert limits(feature, "component", "model", LONG_AGO, moved - timedelta(seconds=1), moved) == [
        1500,
        1500,
        2000,
    ]


def test_two_versions_that_begin_together_leave_the_last_in_force(feature: Feature) -> None:
    save(feature, NOW, budget("first_token", 2000))
    begins = save(feature, NOW, budget("first_token", 1000))
    assert limits(feature, "milestone", "first_token", NOW, begins) == [3000, 1000]


def test_series_of_every_environment_and_release_share_their_limit(feature: Feature) -> None:
    one = series(feature, component="model")
    other = Series.objects.create(
        feature=feature,
        component=feature.components.get(name="model"),
        environment="staging",
        release="v2",
        last_seen_on=NOW.date(),
    ).pk
    histories = limit_histories([one, other])
    assert at(histories[one], NOW) == at(histories[other], NOW) == [1500]


def test_the_histories_of_many_series_take_one_query(feature: Feature) -> None:
    ids = [series(feature, component=name) for name in ("model", "retrieval", "tools")]
    with CaptureQueriesContext(connection) as queries:
        limit_histories(ids)
    assert len(queries) == 1


# -- budgets in force -------------------------------------------------------------------------------


def test_a_budget_in_force_has_the_values_of_its_version(feature: Feature) -> None:
    found = budgets_in_force([feature.pk], NOW)[feature.pk, "first_token"]
    assert (found.budget_ms, found.objective, found.window_days, found.version) == (
        3000.0,
        Decimal("0.99"),
        28,
        1,
    )
    assert (found.allocations, found.unallocated_ms) == ({"model": 1500.0}, 1500.0)
    assert found.effective_from == NOW.replace(second=0)


def test_the_budget_of_first_token_is_the_first_block_of_completes(feature: Feature) -> None:
    save(feature, NOW, budget("first_token", 3000, model=1500), budget("complete", 8000, tools=800))
    found = budgets_in_force([feature.pk], NOW)
    assert found[feature.pk, "complete"].unallocated_ms == 8000 - 3000 - 800
    assert found[feature.pk, "first_token"].unallocated_ms == 1500


def test_complete_alone_has_all_of_its_budget(feature: Feature) -> None:
    other = make_feature(latency_budgets=[budget("complete", 8000, tools=800)])
    assert budgets_in_force([other.pk], NOW)[other.pk, "complete"].unallocated_ms == 7200


def test_the_version_in_force_is_that_of_the_instant(feature: Feature) -> None:
    begins = save(feature, NOW, budget("first_token", 2000))
    for instant, version in ((LONG_AGO, 1), (begins - timedelta(seconds=1), 1), (begins, 2)):
        assert budgets_in_force([feature.pk], instant)[feature.pk, "first_token"].version == version


def test_a_retired_milestone_is_not_in_force(feature: Feature) -> None:
    begins = save(feature, NOW)
    assert budgets_in_force([feature.pk], begins) == {}
    assert (feature.pk, "first_token") in budgets_in_force([feature.pk], NOW)


def test_the_budgets_of_many_features_take_as_many_queries_as_of_one(feature: Feature) -> None:
    others = [make_feature().pk for _ in range(5)]
    counts = []
    for ids in ([feature.pk], [feature.pk, *others]):
        with CaptureQueriesContext(connection) as queries:
            assert len(budgets_in_force(ids, NOW)) == len(ids)
        counts.append(len(queries))
    assert counts[0] == counts[1]
