"""PUT and GET features: statuses, documents, pages of lists, and whose features they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from budgets import rebuild
from budgets.models import Feature, LatencyBudget, Series
from tests.api import Api, error_code
from tests.concurrency import at_once
from tests.factories import NOW, feature_document, item, make_feature, make_key, make_team, make_traffic

FIRST_TOKEN = feature_document()["latency_budgets"][0]
COMPLETE = {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def outsider(db: None) -> Api:
    """Another team, with a key of every scope."""
    team = make_team()
    return Api(team, make_key(team)[1])


# -- PUT --------------------------------------------------------------------------------------------


def test_a_new_feature_is_201_and_the_same_again_200_with_the_document_of_get(api: Api) -> None:
    document = feature_document(team=api.team.slug, description="", runbook_url="https://wiki.example/chat")
    first = api.put("features/chat", document)
    again = api.put("features/chat", document)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == api.get("features/chat").json()
    assert LatencyBudget.objects.count() == 1


def test_the_document_holds_what_was_declared_its_versions_and_its_state(api: Api) -> None:
    document = feature_document(team=api.team.slug, runbook_url="https://wiki.example/chat")
    answered = api.put("features/chat", document).json()
    allocations = FIRST_TOKEN["allocations"]
    assert answered == {
        "feature": "chat",
        "name": "Support chat",
        "team": api.team.slug,
        "kind": "interactive_chat",
        "description": "",
        "archived": False,
        "components": ["model", "retrieval", "tools", "overhead"],
        "latency_budgets": [FIRST_TOKEN | {"note": "", "allocations": allocations}],
        "runbook_url": "https://wiki.example/chat",
        "versions": [
            {
                "milestone": "first_token",
                "version": 1,
                "budget_ms": 3000,
                "objective": 0.99,
                "window_days": 28,
                "allocations": allocations,
                "note": "",
                "effective_from": "2026-11-21T20:00:00Z",
            }
        ],
        "state": "no_data",
        "states": {"first_token": "no_data"},
    }


def test_the_example_of_the_contract_is_declared(api: Api) -> None:
    response = api.put(
        "features/support-chat",
        {
            "name": "Support chat",
            "team": api.team.slug,
            "kind": "interactive_chat",
            "description": "",
            "components": ["model", "retrieval", "tools", "overhead"],
            "latency_budgets": [
                {
                    "milestone": "first_token",
                    "budget_ms": 3000,
                    "objective": 0.99,
                    "window_days": 28,
                    "allocations": {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 300},
                    "note": "why these numbers: the assumptions to revisit",
                },
                {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28},
            ],
            "runbook_url": "https://wiki.example/chat",
        },
    )
    assert response.status_code == 201
    assert [one["milestone"] for one in response.json()["latency_budgets"]] == ["first_token", "complete"]


def test_what_get_gives_can_be_put_back_and_changes_nothing(api: Api) -> None:
    api.put("features/chat", feature_document(latency_budgets=[FIRST_TOKEN, COMPLETE]))
    api.put("features/chat", feature_document(latency_budgets=[COMPLETE | {"budget_ms": 8000.5}]))
    document = api.get("features/chat").json()
    response = api.put("features/chat", document)
    assert (response.status_code, response.json()) == (200, document)
    assert LatencyBudget.objects.count() == 4


def test_a_changed_budget_answers_with_the_new_version_that_will_be_in_force(api: Api) -> None:
    api.put("features/chat", feature_document())
    document = feature_document(latency_budgets=[FIRST_TOKEN | {"budget_ms": 3500}])
    answered = api.put("features/chat", document).json()
    assert answered["latency_budgets"][0]["budget_ms"] == 3500
    assert [(one["version"], one["effective_from"]) for one in answered["versions"]] == [
        (1, "2026-11-21T20:00:00Z"),
        (2, "2026-11-21T20:02:00Z"),
    ]


def test_a_feature_is_archived_and_comes_back(api: Api) -> None:
    api.put("features/chat", feature_document())
    assert api.put("features/chat", feature_document(archived=True)).json()["archived"] is True
    assert api.get("features/chat").json()["archived"] is True
    assert api.get("features/chat/status").status_code == 200
    assert api.put("features/chat", feature_document()).json()["archived"] is False


def test_the_version_says_which_key_saved_it(api: Api) -> None:
    api.put("features/chat", feature_document())
    key = api.team.ingest_keys.get()
    assert LatencyBudget.objects.get().created_by == f"key {key.name}"


def test_the_error_of_the_contract_is_answered_to_the_letter(api: Api) -> None:
    allocations = {"model": 1500, "retrieval": 400, "tools": 800, "overhead": 500}
    document = feature_document(latency_budgets=[FIRST_TOKEN | {"allocations": allocations}])
    response = api.put("features/chat", document)
    said = "Allocations add up to 3200 ms, 200 ms over the latency budget of 3000 ms."
    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "code": "allocation_exceeds_budget",
            "message": f"{said} Nothing was saved.",
            "fields": {"allocations": [said]},
        }
    }
    assert not Feature.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"latency_budgets": [FIRST_TOKEN | {"objective": 1}]}, "invalid_objective"),
        ({"latency_budgets": [FIRST_TOKEN | {"objective": 0}]}, "invalid_objective"),
        ({"components": ["model", "model"], "latency_budgets": []}, "duplicate_component"),
        ({"latency_budgets": [FIRST_TOKEN, FIRST_TOKEN]}, "duplicate_milestone"),
        (
            {"latency_budgets": [FIRST_TOKEN, COMPLETE | {"allocations": {"model": 1}}]},
            "component_allocated_twice",
        ),
        ({"team": "others"}, "wrong_team"),
        ({"name": None}, "invalid_document"),
        ({"latency_budgets": [FIRST_TOKEN | {"budget_ms": True}]}, "invalid_document"),
    ],
    ids=lambda one: str(one)[:60],
)
def test_a_mistake_is_400_and_nothing_is_saved(api: Api, wrong: dict[str, Any], code: str) -> None:
    response = api.put("features/chat", feature_document(**wrong))
    assert (response.status_code, error_code(response)) == (400, code)
    assert not Feature.objects.exists()
    api.put("features/chat", feature_document())
    before = api.get("features/chat").json()
    assert api.put("features/chat", feature_document(**{"name": "Other", **wrong})).status_code == 400
    assert api.get("features/chat").json() == before


@pytest.mark.parametrize("slug", ["a%20b", "%C3%A9", "x" * 201, "a%00b", "a%0A", "a.b"])
def test_a_slug_that_cannot_be_is_400(api: Api, slug: str) -> None:
    response = api.put(f"features/{slug}", feature_document())
    assert (response.status_code, error_code(response)) == (400, "invalid_slug")


@pytest.mark.django_db(transaction=True)
def test_of_two_puts_at_once_one_creates(api: Api) -> None:
    answers = at_once(*[lambda: api.put("features/chat", feature_document())] * 4)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert LatencyBudget.objects.count() == 1


# -- whose it is ------------------------------------------------------------------------------------


def test_another_teams_feature_is_404_everywhere_and_unchanged(api: Api, outsider: Api) -> None:
    api.put("features/chat", feature_document())
    before = api.get("features/chat").json()
    query = {"target": "milestone:first_token", "from": "0", "to": "60"}
    answers = [
        outsider.get("features/chat"),
        outsider.get("features/chat/status"),
        outsider.get("features/chat/timeseries", **query),
        outsider.put("features/chat", feature_document(name="Mine")),
    ]
    assert [(one.status_code, error_code(one)) for one in answers] == [(404, "unknown_feature")] * 4
    assert outsider.get("features").json()["items"] == []
    assert api.get("features/chat").json() == before


def test_another_teams_feature_answers_as_one_that_does_not_exist(api: Api, outsider: Api) -> None:
    api.put("features/chat", feature_document())
    taken, free = (outsider.get(f"features/{slug}") for slug in ("chat", "free"))
    assert taken.content.replace(b"chat", b"free") == free.content


@pytest.mark.parametrize("slug", ["nothing", "a%00b", "x" * 300, "%C3%A9"])
def test_a_feature_that_is_not_there_is_404(api: Api, slug: str) -> None:
    response = api.get(f"features/{slug}")
    assert (response.status_code, error_code(response)) == (404, "unknown_feature")


# -- lists ------------------------------------------------------------------------------------------


def test_features_are_listed_by_slug_with_their_documents(api: Api) -> None:
    for slug in ("b", "c", "a"):
        api.put(f"features/{slug}", feature_document())
    document = api.get("features").json()
    assert document.keys() == {"items", "next_cursor"}
    assert [one["feature"] for one in document["items"]] == ["a", "b", "c"]
    assert document["next_cursor"] is None
    assert document["items"][0] == api.get("features/a").json()


def test_pages_hold_every_feature_once(api: Api) -> None:
    expected = [f"feature-{n:03}" for n in range(120)]
    Feature.objects.bulk_create(
        [Feature(team=api.team, slug=slug, name=slug) for slug in [*expected[60:], *expected[:60]]]
    )
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        document = api.get("features", **({"cursor": cursor} if cursor else {})).json()
        found += [one["feature"] for one in document["items"]]
        cursor, pages = document["next_cursor"], pages + 1
    assert found == expected
    assert pages == 3


def test_a_page_that_is_just_full_is_the_last(api: Api) -> None:
    Feature.objects.bulk_create([Feature(team=api.team, slug=f"f{n}", name="x") for n in range(50)])
    document = api.get("features").json()
    assert (len(document["items"]), document["next_cursor"]) == (50, None)


@pytest.mark.parametrize("cursor", ["x", "%%%", "é", "a" * 3000, "/w==", "AA"])
def test_a_cursor_that_no_answer_gave_is_400_or_a_page(api: Api, cursor: str) -> None:
    response = api.get("features", cursor=cursor)
    assert response.status_code == 200 or error_code(response) == "invalid_cursor"


def test_a_list_takes_as_many_queries_for_many_features_as_for_one(api: Api) -> None:
    counts = []
    api.get("features")  # notes the use of the key, once a minute
    for size in (1, 20):
        while Feature.objects.count() < size:
            make_feature(team=api.team, latency_budgets=[FIRST_TOKEN, COMPLETE])
        with CaptureQueriesContext(connection) as queries:
            assert len(api.get("features").json()["items"]) == size
        counts.append(len(queries))
    assert counts[0] == counts[1]


# -- state ------------------------------------------------------------------------------------------


def test_the_state_of_a_feature_is_the_worst_of_its_milestones(api: Api) -> None:
    feature = make_feature(team=api.team, slug="chat", latency_budgets=[FIRST_TOKEN, COMPLETE])
    make_traffic(feature, at=NOW, count=100, over=0, milestone="first_token")
    document = api.get("features/chat").json()
    assert (document["state"], document["states"]) == ("ok", {"first_token": "ok", "complete": "no_data"})
    make_traffic(feature, at=NOW, count=100, over=50, milestone="complete")
    document = api.get("features/chat").json()
    assert (document["state"], document["states"]) == (
        "breached",
        {"first_token": "ok", "complete": "breached"},
    )
    assert api.get("features").json()["items"][0]["state"] == "breached"


def test_what_was_measured_before_the_first_latency_budget_is_judged_by_it(api: Api) -> None:
    feature = make_feature(team=api.team, slug="chat", latency_budgets=[])
    make_traffic(feature, at=NOW - timedelta(days=2), count=100, over=40, milestone="complete")
    assert api.get("features/chat/status").json()["judged"] == 0
    api.put("features/chat", feature_document(latency_budgets=[COMPLETE]))
    rebuild.rejudge(now=NOW)
    status = api.get("features/chat/status").json()
    assert (status["judged"], status["bad"], status["state"]) == (100, 40, "breached")


def test_a_component_that_is_archived_is_still_measured_and_becomes_unallocated(api: Api) -> None:
    feature = make_feature(team=api.team, slug="chat")
    without = FIRST_TOKEN | {"allocations": {"model": 1500}}
    answered = api.put("features/chat", feature_document(components=["model"], latency_budgets=[without]))
    assert answered.json()["components"] == ["model"]
    later = NOW + timedelta(minutes=5)
    with time_machine.travel(later, tick=False):
        measured = item(feature, component="tools", started_at=later.isoformat(), duration_ms=5)
        assert api.post({"measurements": [measured]}).json()["accepted"] == 1
        make_traffic(feature, at=later, count=1, over=0, component="tools")
        status = api.get("features/chat/status").json()
    assert [(one["component"], one["allocated_ms"], one["state"]) for one in status["components"]] == [
        ("model", 1500, "no_data"),
        ("tools", None, "unallocated"),
    ]
    assert Series.objects.filter(feature=feature, component__name="tools").exists()
