"""Names to series, and what keeps one sender from filling the database with names."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from pytest_django import Settings

from budgets import rollups, series
from budgets.models import Component, Feature, Series
from tests.api import Api
from tests.budgets import stored
from tests.concurrency import at_once
from tests.factories import NOW, feature_document, item, make_feature


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature(api: Api) -> Feature:
    """Four components are declared."""
    return make_feature(team=api.team)


def post(api: Api, *items: dict[str, Any]) -> list[tuple[int, str]]:
    """(index, code) of what was refused."""
    document = api.post({"measurements": list(items)}).json()
    return [(one["index"], one["code"]) for one in document["rejected"]]


def names(feature: Feature) -> list[str | None]:
    return sorted(one.component or "" for one in stored.measurements(feature))


def releases(feature: Feature) -> list[str]:
    return sorted(one.release for one in stored.measurements(feature))


# -- components -------------------------------------------------------------------------------------


def test_beyond_fifty_components_a_new_name_counts_as_other(api: Api, feature: Feature) -> None:
    assert post(api, *(item(feature, component=f"part-{n:02}") for n in range(50))) == []
    assert names(feature) == sorted([f"part-{n:02}" for n in range(46)] + ["__other__"] * 4)
    assert Component.objects.filter(feature=feature).exclude(name="__other__").count() == 50


def test_a_component_that_is_known_keeps_its_name_when_the_limit_is_reached(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_COMPONENTS_PER_FEATURE = 5
    post(api, item(feature, component="reranker"))
    post(api, item(feature, component="unknown"), item(feature, component="reranker"), item(feature))
    assert names(feature) == ["__other__", "model", "reranker", "reranker"]


def test_one_feature_at_its_limit_does_not_limit_another(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_COMPONENTS_PER_FEATURE = 4
    other = make_feature(team=api.team, components=["model"], latency_budgets=[])
    post(api, item(feature, component="new"), item(other, component="new"))
    assert (names(feature), names(other)) == (["__other__"], ["new"])


def test_a_component_that_is_declared_later_gets_its_name(
    api: Api, feature: Feature, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_COMPONENTS_PER_FEATURE = 4
    post(api, item(feature, component="cache"))
    components = [*feature_document()["components"], "cache"]
    assert api.put(f"features/{feature.slug}", feature_document(components=components)).status_code == 200
    begun = time.monotonic()
    monkeypatch.setattr(series.time, "monotonic", lambda: begun + series.OVERFLOW_FOR_S + 1)
    post(api, item(feature, component="cache"))
    assert names(feature) == ["__other__", "cache"]


# -- environments -----------------------------------------------------------------------------------


def test_the_eleventh_environment_is_refused_and_the_ten_go_on(api: Api, feature: Feature) -> None:
    assert post(api, *(item(feature, environment=f"env-{n}") for n in range(10))) == []
    assert post(api, item(feature, environment="one-more"), item(feature, environment="env-3")) == [
        (0, "too_many_environments")
    ]
    assert len(stored.measurements(feature)) == 11


def test_environments_beyond_the_limit_in_one_body_are_refused_each(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_ENVIRONMENTS_PER_FEATURE = 2
    items = [item(feature, environment=name) for name in ("a", "b", "c", "c", "a", "d")]
    assert [code for _, code in post(api, *items)] == ["too_many_environments"] * 3
    assert len({one.environment for one in stored.measurements(feature)}) == 2


def test_the_first_of_a_body_gets_the_last_free_environment(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_ENVIRONMENTS_PER_FEATURE = 1
    assert post(api, item(feature, environment="z"), item(feature, environment="a")) == [
        (1, "too_many_environments")
    ]


def test_a_refused_environment_leaves_no_component_behind(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_ENVIRONMENTS_PER_FEATURE = 1
    post(api, item(feature), item(feature, environment="x", component="ghost"))
    post(api, item(feature, environment="x", component="ghost"))
    assert not Component.objects.filter(name="ghost").exists()


# -- series -----------------------------------------------------------------------------------------


def test_beyond_the_limit_of_series_a_new_release_counts_as_other(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_SERIES_PER_FEATURE = 3
    assert post(api, *(item(feature, release=f"v{n}") for n in range(5))) == []
    assert releases(feature) == ["__other__", "__other__", "v0", "v1", "v2"]


def test_a_known_series_goes_on_beyond_the_limit(api: Api, feature: Feature, settings: Settings) -> None:
    settings.MAX_SERIES_PER_FEATURE = 1
    post(api, item(feature, release="v1"))
    post(api, item(feature, release="v2"), item(feature, release="v1"))
    assert releases(feature) == ["__other__", "v1", "v1"]


def test_beyond_the_limit_each_component_has_an_other_of_its_own(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_SERIES_PER_FEATURE = 1
    post(api, item(feature, release="v1"))
    post(api, item(feature, release="v2"), item(feature, release="v3", component="tools"))
    assert [(one.component, one.release) for one in stored.measurements(feature)] == [
        ("model", "__other__"),
        ("model", "v1"),
        ("tools", "__other__"),
    ]


def test_series_that_were_not_seen_for_14_days_count_no_more(
    api: Api, feature: Feature, settings: Settings
) -> None:
    settings.MAX_SERIES_PER_FEATURE = 1
    post(api, item(feature, release="v1"))
    later = NOW + timedelta(days=15)
    with time_machine.travel(later, tick=False):
        post(api, item(feature, release="v2", started_at=later.isoformat(), duration_ms=0))
    assert releases(feature) == ["v1", "v2"]


def test_a_roll_up_notes_that_a_series_was_seen(api: Api, feature: Feature, settings: Settings) -> None:
    settings.MAX_SERIES_PER_FEATURE = 1
    post(api, item(feature, release="v1"))
    for days in (10, 20):
        later = NOW + timedelta(days=days)
        with time_machine.travel(later, tick=False):
            post(api, item(feature, release="v1", started_at=later.isoformat(), duration_ms=0))
            rollups.roll_up(now=later)
    with time_machine.travel(later, tick=False):
        post(api, item(feature, release="v2", started_at=later.isoformat(), duration_ms=0))
    assert releases(feature) == ["__other__", "v1", "v1", "v1"]


def test_the_limit_is_2000_series_of_50_components_in_10_environments(settings: Settings) -> None:
    assert (
        settings.MAX_SERIES_PER_FEATURE,
        settings.MAX_COMPONENTS_PER_FEATURE,
        settings.MAX_ENVIRONMENTS_PER_FEATURE,
    ) == (2000, 50, 10)


@pytest.mark.django_db(transaction=True)
def test_the_limits_hold_when_many_post_at_once(api: Api, feature: Feature, settings: Settings) -> None:
    settings.MAX_ENVIRONMENTS_PER_FEATURE = 3
    settings.MAX_COMPONENTS_PER_FEATURE = 6
    settings.MAX_SERIES_PER_FEATURE = 8

    def poster(number: int) -> Any:
        items = [
            item(feature, component=f"c{number}-{n}", environment=f"e{number}-{n}", release=f"r{number}-{n}")
            for n in range(6)
        ]
        return lambda: post(api, *items)

    at_once(*[poster(number) for number in range(4)])
    found = Series.objects.filter(feature=feature)
    assert found.values("environment").distinct().count() == 3
    assert Component.objects.filter(feature=feature).exclude(name="__other__").count() == 6
    assert found.exclude(release="__other__").count() <= 8


# -- what a process remembers -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_known_series_is_found_without_a_lock_on_the_feature(
    api: Api, feature: Feature, django_assert_max_num_queries: Any
) -> None:
    post(api, item(feature))
    with django_assert_max_num_queries(12) as queries:
        post(api, item(feature))
    assert not any("FOR NO KEY UPDATE" in query["sql"] for query in queries)


@pytest.mark.django_db(transaction=True)
def test_what_counts_as_other_is_looked_at_again_after_a_minute(
    api: Api, feature: Feature, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_SERIES_PER_FEATURE = 1
    post(api, item(feature, release="v1"))
    post(api, item(feature, release="v2"))
    settings.MAX_SERIES_PER_FEATURE = 100
    post(api, item(feature, release="v2"))
    assert releases(feature) == ["__other__", "__other__", "v1"]
    begun = time.monotonic()
    monkeypatch.setattr(series.time, "monotonic", lambda: begun + series.OVERFLOW_FOR_S + 1)
    post(api, item(feature, release="v2"))
    assert releases(feature) == ["__other__", "__other__", "v1", "v2"]
