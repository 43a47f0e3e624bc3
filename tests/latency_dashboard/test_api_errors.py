"""One error shape from every endpoint, also for what never reaches a view."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client

from tests.api import Api, error_code
from tests.factories import feature_document, make_feature, make_key

ENDPOINTS = [
    ("POST", "measurements", "ingest"),
    ("PUT", "features/chat", "write"),
    ("GET", "features", "read"),
    ("GET", "features/chat", "read"),
    ("GET", "features/chat/status", "read"),
    ("GET", "features/chat/timeseries", "read"),
    ("GET", "features/chat/rules", "read"),
    ("GET", "features/chat/rules/ops", "read"),
    ("PUT", "features/chat/rules/ops", "write"),
    ("DELETE", "features/chat/rules/ops", "write"),
    ("GET", "incidents", "read"),
    ("GET", "incidents/1", "read"),
    ("POST", "incidents/1/acknowledge", "write"),
    ("POST", "incidents/1/resolve", "write"),
    ("POST", "incidents/1/note", "write"),
    ("GET", "annotations", "read"),
    ("POST", "annotations", "ingest write"),
    ("DELETE", "annotations/1", "write"),
    ("GET", "channels", "read"),
    ("GET", "channels/ops", "read"),
    ("PUT", "channels/ops", "write"),
    ("DELETE", "channels/ops", "write"),
    ("GET", "silences", "read"),
    ("POST", "silences", "write"),
    ("GET", "silences/1", "read"),
    ("DELETE", "silences/1", "write"),
    ("GET", "maintenance-windows", "read"),
    ("GET", "maintenance-windows/ops", "read"),
    ("PUT", "maintenance-windows/ops", "write"),
    ("DELETE", "maintenance-windows/ops", "write"),
    ("GET", "schedules", "read"),
    ("GET", "schedules/ops", "read"),
    ("PUT", "schedules/ops", "write"),
    ("DELETE", "schedules/ops", "write"),
    ("GET", "schedules/ops/on-call", "read"),
    ("GET", "schedules/ops/overrides", "read"),
    ("POST", "schedules/ops/overrides", "write"),
    ("DELETE", "schedules/ops/overrides/1", "write"),
    ("GET", "escalation-policies", "read"),
    ("GET", "escalation-policies/ops", "read"),
    ("PUT", "escalation-policies/ops", "write"),
    ("DELETE", "escalation-policies/ops", "write"),
]
BY_PATH = pytest.mark.parametrize(("method", "path", "scope"), ENDPOINTS, ids=lambda one: one)


def test_every_operation_of_the_api_is_in_the_table_above() -> None:
    from latency_dashboard.api import api

    found = {
        (
            method,
            path.lstrip("/")
            .replace("{feature}", "chat")
            .replace("{incident_id}", "1")
            .replace("{silence_id}", "1")
            .replace("{annotation_id}", "1")
            .replace("{override_id}", "1"),
        )
        for _, router in api._routers
        for path, view in router.path_operations.items()
        for operation in view.operations
        for method in operation.methods
    }
    known = {(method, path.replace("ops", "{name}")) for method, path, _ in ENDPOINTS}
    assert found == known


@BY_PATH
def test_no_endpoint_answers_without_a_key(api: Api, method: str, path: str, scope: str) -> None:
    response = Client().generic(method, f"/api/v1/{path}", b"{}", content_type="application/json")
    assert (response.status_code, error_code(response)) == (401, "unauthorized")
    assert response["WWW-Authenticate"] == "Bearer"


@BY_PATH
def test_every_endpoint_needs_its_scope(api: Api, method: str, path: str, scope: str) -> None:
    others = {"ingest", "read", "write"} - set(scope.split())
    headers = {"Authorization": f"Bearer {make_key(api.team, *others)[1]}"}
    response = Client().generic(
        method, f"/api/v1/{path}", b"{}", content_type="application/json", headers=headers
    )
    assert (response.status_code, error_code(response)) == (403, "missing_scope")


@BY_PATH
def test_every_endpoint_answers_a_key_that_has_only_its_scope(
    api: Api, method: str, path: str, scope: str
) -> None:
    for one in scope.split():
        headers = {"Authorization": f"Bearer {make_key(api.team, one)[1]}"}
        response = Client().generic(
            method, f"/api/v1/{path}", b"{}", content_type="application/json", headers=headers
        )
        assert response.status_code in (200, 400, 404)


def test_an_address_that_is_not_there_is_not_found(api: Api) -> None:
    for path in ("nothing", "features/a/b/c", "measurements/", ""):
        response = api.get(path)
        assert (response.status_code, error_code(response)) == (404, "not_found"), path


def test_a_method_that_an_address_does_not_take_is_told_with_those_it_takes(api: Api) -> None:
    response = api.get("measurements")
    assert (response.status_code, error_code(response)) == (405, "method_not_allowed")
    assert response["Allow"] == "POST"


def test_a_host_that_is_not_ours_gets_the_same_shape() -> None:
    response = Client().get("/api/v1/features", headers={"Host": "evil.example"})
    assert (response.status_code, error_code(response)) == (400, "bad_request")


@pytest.mark.usefixtures("plain_static_files")
def test_a_page_that_is_not_there_stays_a_page(db: None) -> None:
    response = Client().get("/no-such-page/")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("timeseries", {}, "target"),
        ("timeseries", {"target": "milestone:complete", "from": "0", "to": "1", "step": "hour"}, "step"),
        ("timeseries", {"target": "milestone:complete", "from": "0", "to": "1", "step": "1e400"}, "step"),
    ],
)
def test_an_invalid_query_is_400_and_names_the_field(
    api: Api, path: str, query: dict[str, str], field: str
) -> None:
    feature = make_feature(team=api.team)
    response = api.get(f"features/{feature.slug}/{path}", **query)
    assert (response.status_code, error_code(response)) == (400, "invalid_request")
    assert field in response.json()["error"]["fields"]


def test_a_query_parameter_that_nobody_knows_is_ignored_by_every_list_alike(api: Api) -> None:
    make_feature(team=api.team)
    lists = [path for method, path, _ in ENDPOINTS if method == "GET" and "/" not in path]
    for path in lists:
        assert api.get(path, sate="active").json() == api.get(path).json(), path
    assert len(lists) == 8
    assert error_code(api.get("incidents", state="active")) == "invalid_state"


def test_a_body_over_the_limit_is_413_at_every_endpoint(api: Api) -> None:
    large = feature_document(description="x" * 1024 * 1024)
    response = api.put("features/chat", large)
    assert (response.status_code, error_code(response)) == (413, "body_too_large")


@pytest.mark.parametrize("body", [b"", b"{", b'{"name":NaN}', b"\xff", b'{"name":"\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_400_at_every_endpoint(api: Api, body: bytes) -> None:
    response = api.put("features/chat", body)
    assert (response.status_code, error_code(response)) == (400, "malformed_json")


def test_an_error_that_nobody_expected_keeps_its_shape_and_its_secrets(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE budgets_feature RENAME TO gone")
    response = api.get("features")
    assert (response.status_code, error_code(response)) == (500, "internal_error")
    assert b"budgets_feature" not in response.content
    assert "budgets_feature" in caplog.text


def test_a_server_that_is_not_there_is_503_at_every_endpoint(api: Api) -> None:
    """PostgreSQL that lost its transaction log space, or its disk, says so in a class of errors of its own."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON budgets_feature EXECUTE FUNCTION fail();
            """
        )
    response = api.put("features/chat", feature_document())
    assert (response.status_code, error_code(response)) == (503, "database_unavailable")
    assert response["Retry-After"] == "5"
    assert b"no space" not in response.content
