"""Deploys and notes are marked once, releases mark themselves, and what is wrong is said field by field."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from budgets import annotations, series
from budgets.annotations import add_annotation, annotations_between, delete_annotation
from budgets.errors import Refusal
from budgets.models import Annotation, AuditEntry, Feature, IngestKey
from tests.api import Api, error_code
from tests.concurrency import at_once
from tests.factories import NOW, item, make_feature, make_key, make_team

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DEPLOY: dict[str, Any] = {"kind": "deploy", "text": "v412"}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def feature(api: Api) -> Feature:
    return make_feature(team=api.team, slug="support-chat")


def post(api: Api, document: Any, **headers: str) -> Any:
    return api.post(document, path="annotations", **headers)


# -- over HTTP --------------------------------------------------------------------------------------


def test_a_deploy_is_kept_as_it_was_posted(api: Api, feature: Feature) -> None:
    response = post(
        api,
        {
            **DEPLOY,
            "feature": "support-chat",
            "environment": "staging",
            "at": "2026-11-21T20:30:00+01:00",
            "url": "https://ci.example.com/jobs/4711",
        },
    )
    assert response.status_code == 201
    document = response.json()
    assert document.pop("id") == Annotation.objects.get().pk
    assert document.pop("author").startswith("key key ")
    assert document == {
        "kind": "deploy",
        "text": "v412",
        "feature": "support-chat",
        "environment": "staging",
        "at": "2026-11-21T19:30:00Z",
        "url": "https://ci.example.com/jobs/4711",
        "created_at": "2026-11-21T20:00:30Z",
    }


def test_kind_and_text_are_enough(api: Api) -> None:
    document = post(api, {"kind": "note", "text": "  Cache \n cleared "}).json()
    assert document["text"] == "Cache cleared"
    assert (document["feature"], document["environment"]) == (None, "production")
    assert (document["at"], document["url"]) == ("2026-11-21T20:00:30Z", None)


def test_unix_seconds_are_an_instant_too(api: Api) -> None:
    document = post(api, {**DEPLOY, "at": (NOW - HOUR).timestamp()}).json()
    assert document["at"] == "2026-11-21T19:00:30Z"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kind", "release", "appear by themselves"),
        ("kind", "party", "deploy or note"),
        ("kind", None, "deploy or note"),
        ("text", "", "1 to 300 characters"),
        ("text", " \n ", "1 to 300 characters"),
        ("text", "x" * 301, "got 301 characters"),
        ("text", "a\0b", "without U+0000"),
        ("text", ["v412"], "must be a text"),
        ("environment", "", "1 to 200 characters"),
        ("environment", "e" * 201, "1 to 200 characters"),
        ("environment", None, "must be a text"),
        ("at", "yesterday", "RFC 3339"),
        ("at", "2026-11-21T20:00:00", "with a zone"),
        ("at", True, "RFC 3339"),
        ("at", 1e300, "RFC 3339"),
        ("at", "2026-11-21T20:02:00Z", "60 s ahead"),
        ("at", "2020-01-01T00:00:00Z", "within the last 400 days"),
        ("url", "javascript:alert(1)", "begins with https://"),
        ("url", "ftp://example.com/", "begins with https://"),
        ("url", "https://example.com/ x", "begins with https://"),
        ("url", f"https://example.com/{'x' * 2000}", "at most 2000"),
        ("url", 7, "begins with https://"),
        ("feature", 7, "slug or null"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(api: Api, field: str, value: Any, said: str) -> None:
    response = post(api, {**DEPLOY, field: value})
    assert (response.status_code, error_code(response)) == (400, "invalid_annotation")
    assert said in response.json()["error"]["fields"][field][0]
    assert not Annotation.objects.exists()


def test_all_that_is_wrong_is_said_at_once(api: Api) -> None:
    assert post(api, {"kind": "party", "url": "x"}).json()["error"]["fields"].keys() == {
        "kind",
        "text",
        "url",
    }


@pytest.mark.parametrize("document", [[], "v412", {**DEPLOY, "release": "v412"}])
def test_a_document_of_another_shape_is_refused(api: Api, document: Any) -> None:
    response = post(api, document)
    assert (response.status_code, error_code(response)) == (400, "invalid_document")


def test_a_body_that_is_no_json_is_refused(api: Api) -> None:
    assert error_code(post(api, b'{"kind": ')) == "malformed_json"


@pytest.mark.parametrize("slug", ["nowhere", "of-others", "a\0b"])
def test_a_feature_that_the_team_does_not_have_is_not_found(api: Api, slug: str) -> None:
    make_feature(team=make_team(), slug="of-others")
    response = post(api, {**DEPLOY, "feature": slug})
    assert (response.status_code, error_code(response)) == (404, "unknown_feature")


def test_the_same_twice_is_one(api: Api, feature: Feature) -> None:
    document = {**DEPLOY, "feature": "support-chat", "at": "2026-11-21T19:30:00Z"}
    first, second = post(api, document), post(api, document)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert Annotation.objects.count() == AuditEntry.objects.filter(action="annotation.added").count() == 1


def test_the_same_payload_under_the_same_key_is_one_although_time_has_passed(api: Api) -> None:
    first = post(api, DEPLOY, idempotency_key="run-7")
    with time_machine.travel(NOW + HOUR, tick=False):
        second = post(api, DEPLOY, idempotency_key="run-7")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert "Idempotent-Replay" not in first
    assert second["Idempotent-Replay"] == "true"


def test_another_payload_under_the_same_key_is_refused(api: Api) -> None:
    post(api, DEPLOY, idempotency_key="run-7")
    response = post(api, {**DEPLOY, "text": "v413"}, idempotency_key="run-7")
    assert (response.status_code, error_code(response)) == (422, "idempotency_key_reused")
    assert Annotation.objects.get().text == "v412"


def test_a_key_is_free_again_after_a_day(api: Api) -> None:
    post(api, DEPLOY, idempotency_key="run-7")
    with time_machine.travel(NOW + 24 * HOUR, tick=False):
        assert post(api, DEPLOY, idempotency_key="run-7").status_code == 201
    assert Annotation.objects.count() == 2


def test_keys_are_per_team(api: Api) -> None:
    team = make_team()
    post(api, DEPLOY, idempotency_key="run-7")
    other = Api(team, make_key(team)[1])
    assert post(other, {**DEPLOY, "text": "v1"}, idempotency_key="run-7").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(api: Api, key: str) -> None:
    response = post(api, DEPLOY, idempotency_key=key)
    assert (response.status_code, error_code(response)) == (400, "invalid_idempotency_key")


def test_a_team_makes_so_many_a_day_and_no_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "MAX_A_DAY", 2)
    for n in range(2):
        assert post(api, {"kind": "note", "text": f"note {n}"}).status_code == 201
    refused = post(api, {"kind": "note", "text": "one more"})
    assert (refused.status_code, error_code(refused)) == (429, "too_many_annotations")
    assert int(refused["Retry-After"]) > 0
    assert post(api, {"kind": "note", "text": "note 1"}).status_code == 200, "what is there is no further one"
    with time_machine.travel(NOW + 24 * HOUR, tick=False):
        assert post(api, {"kind": "note", "text": "one more"}).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_twice_at_once_is_one() -> None:
    team = make_team()
    api = Api(team, make_key(team)[1])
    answers = at_once(*[lambda: post(api, DEPLOY, idempotency_key="run-7").status_code] * 4)
    assert sorted(answers) == [200, 200, 200, 201]
    assert Annotation.objects.count() == 1


def test_a_list_is_narrowed_by_feature_environment_and_range(api: Api, feature: Feature) -> None:
    other = make_feature(team=api.team, slug="inline-help")
    for text, more in {
        "mine": {"feature": feature.slug},
        "everybody's": {},
        "other": {"feature": other.slug},
        "staging": {"feature": feature.slug, "environment": "staging"},
        "early": {"feature": feature.slug, "at": (NOW - 2 * HOUR).timestamp()},
    }.items():
        post(api, {"kind": "note", "text": text, **more})
    add_annotation(team=make_team(), document=DEPLOY, actor="a test", now=NOW)

    def texts(**query: str) -> list[str]:
        return [one["text"] for one in api.get("annotations", **query).json()["items"]]

    assert texts() == ["early", "staging", "other", "everybody's", "mine"]
    assert texts(feature="support-chat") == ["early", "staging", "everybody's", "mine"]
    assert texts(feature="support-chat", environment="production") == ["early", "everybody's", "mine"]
    bounds = {"from": "2026-11-21T18:00:30Z", "to": "2026-11-21T20:00:30Z"}
    assert texts(**bounds) == ["early"], "half-open"
    assert error_code(api.get("annotations", feature="nowhere")) == "unknown_feature"
    assert (
        error_code(api.get("annotations", **{"from": bounds["to"], "to": bounds["from"]})) == "invalid_range"
    )
    assert error_code(api.get("annotations", **{"from": "yesterday"})) == "invalid_instant"
    assert error_code(api.get("annotations", environment="a\0b")) == "invalid_text"


def test_a_list_comes_in_pages_by_a_constant_number_of_queries(api: Api, feature: Feature) -> None:
    def add(numbers: range) -> None:
        for n in numbers:
            note = {"kind": "note", "text": f"note {n}", "feature": feature.slug}
            add_annotation(team=api.team, document=note, actor="a test", now=NOW)

    add(range(3))
    api.get("annotations")  # the first notes that the key is used
    with CaptureQueriesContext(connection) as few:
        api.get("annotations")
    add(range(3, 60))
    with CaptureQueriesContext(connection) as many:
        first = api.get("annotations").json()
    assert len(many) == len(few)
    rest = api.get("annotations", cursor=first["next_cursor"]).json()
    assert [len(first["items"]), len(rest["items"]), rest["next_cursor"]] == [50, 10, None]


def test_what_is_deleted_is_gone_and_written_down(api: Api) -> None:
    pk = post(api, DEPLOY).json()["id"]
    assert api.delete(f"annotations/{pk}").status_code == 204
    assert not Annotation.objects.exists()
    entry = AuditEntry.objects.get(action="annotation.deleted")
    assert (entry.team, entry.before["text"], entry.after) == (api.team, "v412", None)
    assert error_code(api.delete(f"annotations/{pk}")) == "unknown_annotation"
    assert error_code(api.delete("annotations/none")) == "unknown_annotation"
    with pytest.raises(Refusal, match="no such annotation"):
        delete_annotation(annotation_id=pk, actor="a test", now=NOW)


def test_a_key_that_measures_may_mark_and_neither_read_nor_delete(api: Api) -> None:
    job = api.with_token(make_key(api.team, "ingest")[1])
    pk = post(job, DEPLOY).json()["id"]
    assert error_code(job.get("annotations")) == "missing_scope"
    assert error_code(job.delete(f"annotations/{pk}")) == "missing_scope"
    reader = api.with_token(make_key(api.team, "read")[1])
    refused = post(reader, DEPLOY)
    assert "this operation needs ingest or write" in refused.json()["error"]["message"]


# -- what a chart shows -----------------------------------------------------------------------------


def test_a_range_holds_the_features_own_and_the_teams_in_their_order(api: Api, feature: Feature) -> None:
    other = make_feature(team=api.team, slug="inline-help")
    for text, minutes, more in (
        ("second", 10, {}),
        ("first", 20, {"feature": feature.slug}),
        ("other feature", 10, {"feature": other.slug}),
        ("elsewhere", 10, {"environment": "staging"}),
        ("before", 61, {}),
        ("at the end", 0, {}),
    ):
        at = (NOW - timedelta(minutes=minutes)).isoformat()
        post(api, {"kind": "note", "text": text, "at": at, **more})
    add_annotation(team=make_team(), document=DEPLOY, actor="a test", now=NOW - timedelta(minutes=10))
    found = annotations_between(feature, environment="production", start=NOW - HOUR, end=NOW)
    assert [one.text for one in found] == ["first", "second"]


def test_of_too_many_the_newest_are_shown(
    api: Api, feature: Feature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "MAX_DRAWN", 2)
    for minutes in (30, 20, 10):
        at = (NOW - timedelta(minutes=minutes)).isoformat()
        post(api, {"kind": "note", "text": f"{minutes} min ago", "at": at})
    found = annotations_between(feature, environment="production", start=NOW - HOUR, end=NOW)
    assert [one.text for one in found] == ["20 min ago", "10 min ago"]


# -- releases ---------------------------------------------------------------------------------------


def measure(api: Api, *items: dict[str, Any]) -> None:
    answer = api.post({"measurements": list(items)}).json()
    assert not answer["rejected"], answer


def releases(feature: Feature) -> list[tuple[str, str]]:
    found = Annotation.objects.filter(feature=feature, kind=Annotation.Kind.RELEASE)
    return [(one.environment, one.text) for one in found.order_by("pk")]


def test_a_release_marks_itself_once_where_its_first_measurement_ended(api: Api, feature: Feature) -> None:
    measure(api, item(feature, component="model", release="v411"))
    measure(
        api,
        item(feature, component="model", release="v412", started_at="2026-11-21T19:59:00Z", duration_ms=1000),
        item(feature, component="model", release="v412", started_at="2026-11-21T19:58:00Z", duration_ms=1000),
        item(feature, milestone="first_token", release="v412"),
    )
    measure(api, item(feature, component="tools", release="v412"))
    [release] = Annotation.objects.all()
    assert (release.kind, release.text, release.author) == ("release", "v412", "")
    assert (release.feature, release.team, release.environment) == (feature, api.team, "production")
    assert release.at == NOW.replace(minute=58, second=1) - HOUR
    assert api.get("annotations").json()["items"][0]["author"] is None


def test_what_an_environment_begins_with_is_no_change(api: Api, feature: Feature) -> None:
    measure(
        api,
        item(feature, component="model", release="v411"),
        item(feature, component="model", release="v412"),
    )
    measure(api, item(feature, component="model", release="v412", environment="staging"))
    assert releases(feature) == []
    measure(api, item(feature, component="model", release="v413", environment="staging"))
    assert releases(feature) == [("staging", "v413")]


def test_measurements_without_a_release_came_before_the_first_one(api: Api, feature: Feature) -> None:
    measure(api, item(feature, component="model"))
    measure(api, item(feature, component="model", release="v412"))
    measure(api, item(feature, component="tools"))
    assert releases(feature) == [("production", "v412")]


def test_the_overflow_is_no_release(api: Api, feature: Feature, settings: Settings) -> None:
    measure(api, item(feature, component="model", release="v411"))
    settings.MAX_SERIES_PER_FEATURE = 2
    measure(api, item(feature, component="model", release="v412"))
    measure(api, item(feature, component="model", release="v413"))
    measure(api, item(feature, component="model", release="__other__"))
    assert releases(feature) == [("production", "v412")]


def test_a_release_that_was_deleted_does_not_come_back(api: Api, feature: Feature) -> None:
    measure(api, item(feature, component="model", release="v411"))
    measure(api, item(feature, component="model", release="v412"))
    delete_annotation(annotation_id=Annotation.objects.get().pk, actor="a test", now=NOW)
    measure(api, item(feature, component="tools", release="v412"))
    assert releases(feature) == []


def test_series_that_are_known_cost_ingest_nothing_more(api: Api, feature: Feature) -> None:
    measure(api, item(feature, component="model", release="v411"))
    measure(api, item(feature, component="model", release="v412"))
    with CaptureQueriesContext(connection) as queries:
        measure(api, item(feature, component="model", release="v412"))
    assert not [one["sql"] for one in queries if "annotation" in one["sql"]]


@pytest.mark.django_db(transaction=True)
def test_a_release_that_arrives_several_times_at_once_is_marked_once() -> None:
    team = make_team()
    feature = make_feature(team=team)
    api = Api(team, make_key(team, "ingest")[1])
    measure(api, item(feature, component="model", release="v411"))
    parts = ("model", "tools", "retrieval", "overhead")
    at_once(
        *[lambda part=part: measure(api, item(feature, component=part, release="v412")) for part in parts]
    )
    assert releases(feature) == [("production", "v412")]


def test_releases_do_not_use_up_what_a_team_may_mark(
    api: Api, feature: Feature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "MAX_A_DAY", 1)
    measure(api, item(feature, component="model", release="v411"))
    measure(api, item(feature, component="model", release="v412"))
    assert post(api, DEPLOY).status_code == 201


def test_series_are_made_without_instants_too(feature: Feature) -> None:
    """As by whoever has no measurements at hand: a release is then marked now."""
    key = IngestKey.objects.get(team=feature.team)
    for release in ("v411", "v412"):
        wanted = series.find(key.team, [(feature.slug, "model", None, "production", release)])
        series.make(wanted.unknown, NOW)
    assert Annotation.objects.get().at == NOW
    assert msgspec.json.encode(annotations.annotation_document(Annotation.objects.get()))
