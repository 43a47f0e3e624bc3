"""What other numbers would have made of what was measured."""

from __future__ import annotations

from datetime import timedelta

import pytest

from budgets.estimates import Observed, good_ratio, observe, over_ratio
from budgets.models import Feature
from budgets.tiles import NOTHING
from tests.factories import NOW, make_feature, make_traffic

pytestmark = pytest.mark.django_db
AT = NOW - timedelta(hours=3)


@pytest.fixture
def feature() -> Feature:
    feature = make_feature()
    # 80 at 1024 ms and 20 at 4096 ms: bounds of buckets, about which a histogram is exact.
    make_traffic(
        feature, at=AT, count=100, over=20, good_ms=1024.0, over_ms=4096.0, milestone="first_token", now=NOW
    )
    make_traffic(feature, at=AT, count=10, over=2, over_status="timeout", component="tools", now=NOW)
    make_traffic(feature, at=AT, count=10, over=3, over_status="error", component="model", now=NOW)
    return feature


def seen(feature: Feature, *days: int) -> Observed:
    return observe(feature, environment="production", days=days or (28,), now=NOW)


@pytest.mark.parametrize(
    ("limit_ms", "ratio"), [(1000, 0.0), (1024, 0.8), (2048, 0.8), (4096, 1.0), (9999, 1.0)]
)
def test_the_share_that_would_have_been_good_follows_the_limit(
    feature: Feature, limit_ms: int, ratio: float
) -> None:
    assert good_ratio(seen(feature).totals("milestone:first_token", 28), limit_ms) == pytest.approx(
        ratio, abs=0.01
    )


def test_timeouts_are_over_any_limit_and_errors_are_never_good(feature: Feature) -> None:
    tools, model = (seen(feature).totals(f"component:{name}", 28) for name in ("tools", "model"))
    assert (good_ratio(tools, 90_000), over_ratio(tools, 90_000)) == (0.8, pytest.approx(0.2))
    assert (good_ratio(model, 90_000), over_ratio(model, 90_000)) == (0.7, 0.0)


def test_without_data_there_is_no_estimate() -> None:
    nothing = seen(make_feature())
    assert nothing == Observed()
    assert nothing.totals("milestone:complete", 28) == NOTHING
    assert good_ratio(NOTHING, 3000) is None
    assert over_ratio(NOTHING, 3000) is None


def test_each_number_of_days_is_counted_by_itself(feature: Feature) -> None:
    make_traffic(
        feature, at=NOW - timedelta(days=6, hours=20), count=7, over=0, milestone="first_token", now=NOW
    )
    found = seen(feature, 7, 28)
    assert found.totals("milestone:first_token", 7).counts.total == 107
    assert found.first_day == (NOW - timedelta(days=6, hours=20)).date()
    assert found.components() == {"tools", "model"}


def test_other_environments_do_not_count(feature: Feature) -> None:
    assert observe(feature, environment="staging", days=(28,), now=NOW) == Observed()
