"""POST /api/v1/measurements: what is stored, what is answered, and what happens to the same data twice."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from budgets import rollups
from budgets.models import Batch, Component, Series
from tests.api import Api, error_code
from tests.budgets import stored
from tests.budgets.stored import Stored
from tests.concurrency import at_once, held, is_waiting, other_connection
from tests.factories import NOW, feature_document, item, make_feature, make_key, make_team, request_item

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


# -- what is stored ---------------------------------------------------------------------------------


def test_a_measurement_is_stored_with_everything_that_was_sent(api: Api) -> None:
    feature = make_feature(team=api.team)
    response = api.post(
        {
            "measurements": [
                {
                    "feature": feature.slug,
                    "component": "retrieval",
                    "started_at": "2026-11-21T20:00:00.125Z",
                    "duration_ms": 231.5,
                    "status": "timeout",
                    "trace_id": TRACE,
                    "span_id": SPAN,
                    "parent_span_id": "f" * 16,
                    "environment": "staging",
                    "release": "v412",
                    "labels": {"cache": "cold", "tries": 3, "share": 0.5, "is_new": True, "": "é😀"},
                }
            ]
        }
    )
    assert (response.status_code, response.json()) == (200, {"accepted": 1, "duplicates": 0, "rejected": []})
    assert stored.measurements(feature) == [
        Stored(
            component="retrieval",
            milestone=None,
            environment="staging",
            release="v412",
            ended_at=datetime(2026, 11, 21, 20, 0, 0, 356_500, UTC),
            duration_ms=231.5,
            status="timeout",
            trace_id=UUID(TRACE),
            span_id=SPAN,
            parent_span_id="f" * 16,
            labels={"cache": "cold", "tries": 3, "share": 0.5, "is_new": True, "": "é😀"},
        )
    ]


def test_the_example_of_the_contract_is_accepted_whole(api: Api) -> None:
    make_feature(team=api.team, slug="support-chat")
    response = api.post(
        {
            "measurements": [
                {
                    "feature": "support-chat",
                    "component": "retrieval",
                    "started_at": "2026-11-21T20:00:00.125Z",
                    "duration_ms": 231.5,
                    "status": "ok",
                    "trace_id": TRACE,
                    "span_id": SPAN,
                    "parent_span_id": None,
                    "environment": "production",
                    "release": "v412",
                    "labels": {"cache": "cold"},
                },
                {
                    "feature": "support-chat",
                    "milestone": "first_token",
                    "started_at": 1795291200.125,
                    "duration_ms": 1840,
                },
            ],
            "requests": [
                {
                    "feature": "support-chat",
                    "trace_id": TRACE,
                    "started_at": "2026-11-21T20:00:00Z",
                    "status": "ok",
                    "environment": "production",
                    "release": "v412",
                    "milestones": {"first_token": 1840, "complete": 6210},
                    "components": [
                        {"component": "retrieval", "offset_ms": 12, "duration_ms": 231.5, "status": "ok"}
                    ],
                    "labels": {"cache": "cold"},
                }
            ],
        }
    )
    assert (response.status_code, response.json()) == (200, {"accepted": 5, "duplicates": 0, "rejected": []})


def test_the_answer_is_json(api: Api) -> None:
    feature = make_feature(team=api.team)
    assert api.post({"measurements": [item(feature)]})["Content-Type"] == "application/json"


def test_a_request_is_stored_as_its_measurements_and_the_several_calls_of_a_component_as_spans(
    api: Api,
) -> None:
    feature = make_feature(team=api.team)
    request = request_item(
        feature,
        trace_id=TRACE,
        release="v1",
        labels={"cache": "cold"},
        milestones={"first_token": 1840},
        components=[
            {"component": "tools", "offset_ms": 0, "duration_ms": 100, "span_id": SPAN},
            {"component": "tools", "offset_ms": 300, "duration_ms": 50, "status": "error"},
            {"component": "model", "offset_ms": 400, "duration_ms": 1000, "span_id": "b" * 16},
        ],
    )
    response = api.post({"requests": [request]})
    assert response.json() == {"accepted": 4, "duplicates": 0, "rejected": []}
    found = stored.measurements(feature)
    assert [(one.component or one.milestone, one.duration_ms, one.status) for one in found] == [
        ("tools", 150, "error"),
        ("model", 1000, "ok"),
        ("first_token", 1840, "ok"),
    ]
    assert all(
        (one.trace_id, one.release, one.labels) == (UUID(TRACE), "v1", {"cache": "cold"}) for one in found
    )
    assert [one.span_id for one in found] == [None, "b" * 16, None]
    spans = stored.spans(feature)
    assert [(one.component, one.duration_ms, one.status, one.span_id) for one in spans] == [
        ("tools", 100, "ok", SPAN),
        ("tools", 50, "error", None),
    ]


def test_sound_items_are_stored_and_the_others_named(api: Api) -> None:
    feature = make_feature(team=api.team)
    response = api.post(
        {
            "measurements": [item(feature), item(feature, duration_ms=-3), item("no-such-feature")],
            "requests": [request_item(feature), request_item(feature, status="error", milestones={})],
        }
    )
    assert response.status_code == 200
    document = response.json()
    assert (document["accepted"], document["duplicates"]) == (5, 0)
    assert [(one["in"], one["index"], one["code"]) for one in document["rejected"]] == [
        ("measurements", 1, "negative_duration"),
        ("measurements", 2, "unknown_feature"),
        ("requests", 1, "milestone_required"),
    ]
    assert document["rejected"][0]["message"] == "duration_ms must be ≥ 0, got -3."
    assert len(stored.measurements(feature)) == 5


def test_an_accepted_batch_waits_to_be_rolled_up_and_counts_once(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)] * 3, "requests": [request_item(feature)]})
    [batch] = Batch.objects.all()
    assert (batch.state, batch.team, batch.measurement_count) == ("pending", api.team, 7)
    assert (batch.ended_from, batch.ended_to) == (
        datetime(2026, 11, 21, 20, 0, 20, tzinfo=UTC),
        datetime(2026, 11, 21, 20, 0, 26, 210_000, UTC),
    )
    assert rollups.roll_up(now=NOW).measurements == 7


def test_the_same_batch_without_an_idempotency_key_counts_twice(api: Api) -> None:
    feature = make_feature(team=api.team)
    for _ in range(2):
        api.post({"measurements": [item(feature)]})
    assert len(stored.measurements(feature)) == 2


def test_duplicates_are_counted_apart(api: Api) -> None:
    feature = make_feature(team=api.team)
    one = item(feature, trace_id=TRACE, span_id=SPAN)
    response = api.post({"measurements": [one, one, item(feature)]})
    assert response.json() == {"accepted": 2, "duplicates": 1, "rejected": []}
    assert len(stored.measurements(feature)) == 2


def test_a_repetition_of_what_is_refused_is_refused_too(api: Api) -> None:
    feature = make_feature(team=api.team)
    one = item("no-such-feature", trace_id=TRACE, span_id=SPAN)
    response = api.post({"measurements": [one, one, item(feature)]})
    document = response.json()
    assert (document["accepted"], document["duplicates"]) == (1, 0)
    assert [one["index"] for one in document["rejected"]] == [0, 1]


def test_a_body_may_be_gzipped(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = msgspec.json.encode({"measurements": [item(feature)]})
    assert api.post(gzip.compress(body), content_encoding="gzip").json()["accepted"] == 1


def test_measurements_of_different_days_go_to_their_days(api: Api) -> None:
    feature = make_feature(team=api.team)
    items = [
        item(feature, started_at=(NOW - timedelta(days=days)).isoformat(), duration_ms=0) for days in range(7)
    ]
    assert api.post({"measurements": items}).json()["accepted"] == 7
    assert [one.ended_at.day for one in stored.measurements(feature)] == [15, 16, 17, 18, 19, 20, 21]


def test_what_ends_after_midnight_of_the_coming_day_has_a_partition(api: Api) -> None:
    feature = make_feature(team=api.team)
    late = datetime(2026, 11, 21, 23, 59, 30, tzinfo=UTC)
    with time_machine.travel(late, tick=False):
        response = api.post(
            {"measurements": [item(feature, started_at=late.isoformat(), duration_ms=45_000)]}
        )
    assert response.json()["accepted"] == 1
    assert stored.measurements(feature)[0].ended_at.day == 22


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
hex_ids = [
    st.none() | st.integers(1, 16**digits - 1).map(lambda n, digits=digits: f"{n:0{digits}x}")  # type: ignore[misc]
    for digits in (32, 16, 16)
]
label_values = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(-1e6, 1e6)
)
sound_items = st.fixed_dictionaries(
    {
        "component": names,
        "started_at": st.integers(0, 6 * 86_400_000_000).map(
            lambda us: (NOW - timedelta(days=6) + timedelta(microseconds=us)).isoformat()
        ),
        "duration_ms": st.integers(0, 60_000_000).map(lambda us: us / 1000)
        | st.floats(0, 1000, allow_subnormal=False),
        "status": st.sampled_from(["ok", "error", "timeout"]),
        "trace_id": hex_ids[0],
        "span_id": hex_ids[1],
        "parent_span_id": hex_ids[2],
        "environment": st.sampled_from(["production", "staging", "検証"]),
        "release": st.just("") | names,
        "labels": st.none() | st.dictionaries(names, label_values, max_size=3),
    }
)


# Shrinking what fails here would post for minutes.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(items=st.lists(sound_items, min_size=1, max_size=12))
def test_everything_that_is_accepted_is_stored_exactly(api: Api, items: list[dict[str, Any]]) -> None:
    feature = make_feature(team=api.team)
    response = api.post({"measurements": [{"feature": feature.slug, **one} for one in items]})
    document = response.json()
    assert (response.status_code, document["rejected"]) == (200, [])
    distinct: dict[object, dict[str, Any]] = {}
    for position, one in enumerate(items):
        name = (one["component"], one["environment"], one["release"], one["trace_id"], one["started_at"])
        distinct.setdefault((*name, one["span_id"]) if one["span_id"] else position, one)
    assert document["accepted"] == len(distinct)
    assert document["duplicates"] == len(items) - len(distinct)
    expected = (
        Stored(
            component=one["component"],
            milestone=None,
            environment=one["environment"],
            release=one["release"],
            ended_at=datetime.fromisoformat(one["started_at"])
            + timedelta(microseconds=round(one["duration_ms"] * 1000)),
            duration_ms=one["duration_ms"],
            status=one["status"],
            trace_id=one["trace_id"] and UUID(one["trace_id"]),
            span_id=one["span_id"],
            parent_span_id=one["parent_span_id"],
            labels=one["labels"] or None,
        )
        for one in distinct.values()
    )
    rest = stored.measurements(feature)
    for one in expected:
        rest.remove(one)
    assert rest == []


def test_a_thousand_measurements_take_as_many_queries_as_one(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)]})
    counts = []
    for size in (1, 1000):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert api.post({"measurements": [item(feature)] * size}).json()["accepted"] == size
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_thousand_new_releases_take_few_queries(api: Api) -> None:
    feature = make_feature(team=api.team)
    items = [item(feature, release=f"v{n}") for n in range(1000)]
    with CaptureQueriesContext(connection) as queries:
        assert api.post({"measurements": items}).json()["accepted"] == 1000
    assert len(queries) < 40


# -- who sends --------------------------------------------------------------------------------------


def test_another_teams_feature_is_unknown(api: Api) -> None:
    others = make_feature(team=make_team())
    own = make_feature(team=api.team)
    response = api.post({"measurements": [item(own), item(others)]})
    assert [(one["index"], one["code"]) for one in response.json()["rejected"]] == [(1, "unknown_feature")]
    assert stored.measurements(others) == []


def test_an_archived_features_items_are_refused_until_it_is_back(api: Api) -> None:
    feature = make_feature(team=api.team)
    own = make_feature(team=api.team)
    assert api.post({"measurements": [item(feature)]}).json()["accepted"] == 1
    api.put(f"features/{feature.slug}", feature_document(archived=True))
    response = api.post({"measurements": [item(feature), item(own)]})
    assert [(one["index"], one["code"]) for one in response.json()["rejected"]] == [(0, "feature_archived")]
    api.put(f"features/{feature.slug}", feature_document())
    assert api.post({"measurements": [item(feature)]}).json()["accepted"] == 1


def test_a_component_that_nobody_declared_is_accepted_and_noted(api: Api) -> None:
    feature = make_feature(team=api.team)
    assert api.post({"measurements": [item(feature, component="reranker")]}).json()["accepted"] == 1
    assert Component.objects.get(feature=feature, name="reranker").state == Component.State.OBSERVED


def test_what_is_refused_leaves_neither_component_nor_series(api: Api) -> None:
    feature = make_feature(team=api.team)
    response = api.post(
        {
            "measurements": [
                item(feature),
                item(feature, component="ghost", duration_ms=-1),
                item(feature, component=...),
                item(feature, milestone="complete", component="model"),
                item(feature, milestone="never"),
                item(feature, environment="nowhere", status="slow"),
            ],
            "requests": [
                request_item(feature, release="never", milestones={"complete": -1}),
            ],
        }
    )
    assert (response.status_code, response.json()["accepted"]) == (200, 1)
    assert not Component.objects.filter(name="ghost").exists()
    assert Series.objects.filter(feature=feature).count() == 1


# -- idempotency ------------------------------------------------------------------------------------


def test_the_same_key_and_payload_get_the_same_answer_and_count_nothing_twice(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {
        "measurements": [item(feature), item(feature, duration_ms=-1)],
        "requests": [request_item(feature)],
    }
    first = api.post(body, idempotency_key="a")
    again = api.post(body, idempotency_key="a")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert (first.get("Idempotent-Replay"), again.get("Idempotent-Replay")) == (None, "true")
    assert again["Content-Type"] == first["Content-Type"]
    assert len(stored.measurements(feature)) == 5


def test_the_payload_is_compared_after_inflating(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = msgspec.json.encode({"measurements": [item(feature)]})
    api.post(body, idempotency_key="a")
    again = api.post(gzip.compress(body), idempotency_key="a", content_encoding="gzip")
    assert again.get("Idempotent-Replay") == "true"
    assert len(stored.measurements(feature)) == 1


def test_the_same_key_with_another_payload_is_refused(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)]}, idempotency_key="a")
    response = api.post({"measurements": [item(feature, duration_ms=1)]}, idempotency_key="a")
    assert (response.status_code, error_code(response)) == (422, "idempotency_key_reused")
    assert len(stored.measurements(feature)) == 1


def test_idempotency_keys_are_the_teams_whichever_of_its_keys_sends(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)]}
    api.post(body, idempotency_key="a")
    colleague = api.with_token(make_key(api.team, "ingest")[1])
    assert colleague.post(body, idempotency_key="a").get("Idempotent-Replay") == "true"


def test_another_team_may_use_the_same_idempotency_key(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)]}, idempotency_key="a")
    team = make_team()
    other = Api(team, make_key(team)[1])
    response = other.post({"measurements": [item(make_feature(team=team))]}, idempotency_key="a")
    assert (response.status_code, response.get("Idempotent-Replay")) == (200, None)


@pytest.mark.parametrize(("hours", "is_replay"), [(23.99, True), (24, False), (48, False)])
def test_an_idempotency_key_is_kept_for_24_hours(api: Api, hours: float, is_replay: bool) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)]}
    api.post(body, idempotency_key="a")
    with time_machine.travel(NOW + timedelta(hours=hours), tick=False):
        response = api.post(body, idempotency_key="a")
    assert response.status_code == 200
    assert (response.get("Idempotent-Replay") == "true") is is_replay
    assert len(stored.measurements(feature)) == (1 if is_replay else 2)


def test_an_expired_idempotency_key_begins_anew_with_another_payload(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature)]}, idempotency_key="a")
    body = {"measurements": [item(feature, duration_ms=1)]}
    with time_machine.travel(NOW + timedelta(hours=25), tick=False):
        assert api.post(body, idempotency_key="a").get("Idempotent-Replay") is None
        assert api.post(body, idempotency_key="a").get("Idempotent-Replay") == "true"


def test_a_replay_is_answered_from_the_batch_also_after_it_was_rolled_up(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)]}
    api.post(body, idempotency_key="a")
    rollups.roll_up(now=NOW)
    assert api.post(body, idempotency_key="a").get("Idempotent-Replay") == "true"
    assert rollups.roll_up(now=NOW).measurements == 0


@pytest.mark.parametrize(
    "useless",
    [b"{", b"[]", b"{}", b'{"measurements":[{}]}', b'{"measurements":[1,2]}'],
    ids=lambda one: one.decode(),
)
def test_a_body_with_nothing_usable_is_not_kept_under_its_idempotency_key(api: Api, useless: bytes) -> None:
    feature = make_feature(team=api.team)
    for _ in range(2):
        response = api.post(useless, idempotency_key="a")
        assert (response.status_code, response.get("Idempotent-Replay")) == (400, None)
    assert api.post({"measurements": [item(feature)]}, idempotency_key="a").status_code == 200


def test_items_that_were_refused_may_be_sent_again_once_their_feature_exists(api: Api) -> None:
    body = {"measurements": [item("to-come")]}
    assert api.post(body, idempotency_key="a").status_code == 400
    make_feature(team=api.team, slug="to-come")
    assert api.post(body, idempotency_key="a").json()["accepted"] == 1


@pytest.mark.parametrize("idempotency_key", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_that_cannot_be_is_refused(api: Api, idempotency_key: str) -> None:
    feature = make_feature(team=api.team)
    response = api.post({"measurements": [item(feature)]}, idempotency_key=idempotency_key)
    assert (response.status_code, error_code(response)) == (400, "invalid_idempotency_key")
    assert stored.measurements(feature) == []


HOLD_MEASUREMENTS = "LOCK TABLE budgets_measurement IN EXCLUSIVE MODE"
"""Whoever writes measurements waits; whoever reads them does not."""


@pytest.mark.django_db(transaction=True)
def test_a_second_request_under_the_key_of_one_that_is_being_stored_is_told_so(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)]}
    api.post(body)  # so that the partition is there and only the batch waits
    with held(HOLD_MEASUREMENTS) as start:
        first = start(lambda: api.post(body, idempotency_key="a"))
        assert is_waiting("COPY", "budgets_measurement")
        second = start(lambda: api.post(body, idempotency_key="a")).result(timeout=20)
    assert (second.status_code, error_code(second)) == (409, "idempotency_key_in_flight")
    assert first.result().status_code == 200
    assert api.post(body, idempotency_key="a").get("Idempotent-Replay") == "true"
    assert len(stored.measurements(feature)) == 2


@pytest.mark.django_db(transaction=True)
def test_the_same_batch_twice_at_once_is_stored_once(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature)] * 50}
    answers = at_once(*[lambda: api.post(body, idempotency_key="a")] * 4)
    assert sum(answer.status_code == 200 and "Idempotent-Replay" not in answer for answer in answers) == 1
    assert all(
        answer.status_code == 200 or error_code(answer) == "idempotency_key_in_flight" for answer in answers
    )
    assert len(stored.measurements(feature)) == 50


@pytest.mark.django_db(transaction=True)
def test_batches_that_make_the_same_new_series_at_once_share_it(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature, component=f"part-{n}") for n in range(20)]}
    answers = at_once(*[lambda: api.post(body)] * 3)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert Series.objects.filter(feature=feature).count() == 20
    assert len(stored.measurements(feature)) == 60


@pytest.mark.django_db(transaction=True)
def test_what_was_not_committed_is_no_known_series_of_the_process(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature, release="v2")]}
    with held(HOLD_MEASUREMENTS) as start:
        first = start(lambda: api.post(body))
        assert is_waiting("COPY", "budgets_measurement")
        with other_connection() as other, other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        response = first.result()
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert error_code(response) == "database_unavailable"
    assert not Series.objects.exists()
    assert api.post(body).json()["accepted"] == 1
    assert [one.release for one in stored.measurements(feature)] == ["v2"]
