"""/metrics, read as Prometheus reads it."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings

from alerts.models import DeliveryAttempt, Incident, Notification
from budgets import partitions, rollups
from budgets.models import Batch, Feature, Sweep
from latency_dashboard import metrics
from tests.api import Api
from tests.children import PROJECT
from tests.factories import item, make_channel, make_feature, make_key, make_traffic
from tests.latency_dashboard.web import web_server

TOKEN = "metrics-token-0123456789"
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def _token(settings: Settings) -> None:
    settings.METRICS_TOKEN = TOKEN
    settings.METRICS_CACHE_SECONDS = 0


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def values(text: str) -> Values:
    return {
        (sample.name.removeprefix("latency_dashboard_"), frozenset(sample.labels.items())): sample.value
        for family in families(text)
        for sample in family.samples
    }


def asked() -> str:
    response = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    return response.content.decode()


def value(name: str, **labels: str) -> float:
    return values(asked())[(name, frozenset(labels.items()))]


# -- who may ask ------------------------------------------------------------------------------------


def test_there_is_nothing_where_no_token_is_set(db: None, settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    for shown in ("", "Bearer ", f"Bearer {TOKEN}"):
        response = Client().get("/metrics", headers={"Authorization": shown})
        assert response.status_code == 404


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
def test_whoever_does_not_show_the_token_is_told_so_and_nothing_else(db: None, shown: str) -> None:
    response = Client().get("/metrics", headers={"Authorization": shown})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert b"latency_dashboard" not in response.content


def test_a_team_key_is_no_token(api: Api) -> None:
    response = Client().get("/metrics", headers={"Authorization": f"Bearer {make_key(api.team)[1]}"})
    assert response.status_code == 401


def test_they_can_be_had_by_plain_http_from_within(db: None, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert asked()


# -- how they read ----------------------------------------------------------------------------------


def test_every_metric_is_named_and_described_as_prometheus_wants_it(api: Api) -> None:
    """What `promtool check metrics` looks at, and the conventions about units."""
    api.post({"measurements": [item("no-such-feature")]})
    found = families(asked())
    ours = [family for family in found if family.name.startswith("latency_dashboard_")]
    assert len(ours) >= 20
    for family in ours:
        name = family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
        assert not re.search(r"_(ms|milliseconds|minutes|hours|days|kb|mb|percent|count|sum|bucket)$", name)
        assert not name.endswith(f"_{family.type}"), name
        for sample in family.samples:
            # Counters end so, and nothing else does.
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not {"le", "quantile"} & set(sample.labels) or family.type in ("histogram", "gauge")
            assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in sample.labels), sample.labels
        labelled = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(labelled) == len(set(labelled)), name


def test_what_is_documented_is_what_there_is(api: Api) -> None:
    api.post({"measurements": [item("no-such-feature")]})
    text = (PROJECT / "docs/how-to/monitor.md").read_text()
    listed = re.findall(r"^\| `(latency_dashboard_\w+)` \| (\w+) \| ([\w, ]*) ?\|", text, re.MULTILINE)
    there = {
        (family.name.removesuffix("_info"), "info" if family.name.endswith("_info") else family.type)
        for family in families(asked())
        if family.name.startswith("latency_dashboard_")
    }
    assert {(name, kind) for name, kind, _ in listed} == there
    labels = {name: set(filter(None, re.split(r",? ", of_it))) for name, _, of_it in listed}
    for family in families(asked()):
        for sample in family.samples:
            name = family.name.removesuffix("_info")
            if name in labels:
                assert set(sample.labels) - {"le"} == labels[name], sample.name


def test_the_alerts_that_are_suggested_ask_for_what_there_is(api: Api) -> None:
    text = (PROJECT / "docs/how-to/monitor.md").read_text()
    blocks = [found for found in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "groups" in found]
    api.post({"measurements": [item("no-such-feature")]})
    make_traffic(make_feature(team=api.team), at=timezone.now(), count=1, over=0, milestone="first_token")
    names = {sample.name for family in families(asked()) for sample in family.samples} | {
        family.name for family in families(asked())
    }
    expressions = [
        rule["expr"]
        for rules in blocks
        for group in yaml.safe_load(rules)["groups"]
        for rule in group["rules"]
    ]
    assert len(expressions) > 10
    for expression in expressions:
        assert set(re.findall(r"latency_dashboard_\w+", expression)) <= names, expression


def test_they_can_be_read_as_openmetrics_too(db: None) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", "Authorization": f"Bearer {TOKEN}"}
    response = Client().get("/metrics", headers=accept)
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert "latency_dashboard_build" in {
        family.name for family in read_openmetrics(response.content.decode())
    }


def test_they_take_the_same_few_queries_however_much_there_is(
    api: Api, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_traffic(make_feature(team=api.team), at=timezone.now(), count=1, over=0, milestone="first_token")
    asked()
    with CaptureQueriesContext(connection) as queries:
        asked()
    for _ in range(3):
        feature = make_feature(team=api.team)
        make_traffic(feature, at=timezone.now(), count=3, over=1, milestone="first_token")
        make_traffic(feature, at=timezone.now(), count=3, over=1, milestone="first_token", release="v2")
    assert len(queries) <= 16
    with django_assert_num_queries(len(queries)):
        asked()


def test_nothing_names_a_team_a_channel_or_an_incident(api: Api) -> None:
    feature = make_feature(team=api.team)
    make_incident(feature)
    make_channel(api.team, name="secret-channel")
    api.get(f"features/{feature.slug}")
    text = asked()
    for name in (api.team.slug, "secret-channel", "secret-summary"):
        assert name not in text


# -- what they say ----------------------------------------------------------------------------------


def grown(name: str, act: Callable[[], Any], **labels: str) -> float:
    """By how much a counter grows while something is done."""
    key = (name, frozenset(labels.items()))
    before = values(asked()).get(key, 0.0)
    act()
    return values(asked()).get(key, 0.0) - before


def test_requests_are_counted_by_method_route_and_class_of_status(api: Api) -> None:
    labels = {"method": "GET", "route": "/api/v1/features/<feature>/status"}
    ask = lambda: [api.get(f"features/{n}/status") for n in range(3)]  # noqa: E731
    assert grown("http_requests_total", ask, **labels, status_class="4xx") == 3
    assert grown("http_request_duration_seconds_count", ask, **labels) == 3
    assert grown("http_request_duration_seconds_bucket", ask, **labels, le="+Inf") == 3


@pytest.mark.usefixtures("plain_static_files")
def test_paths_and_methods_that_nobody_knows_make_no_new_series(db: None) -> None:
    ask = lambda: [Client().generic("BREW", f"/no/such/{n}") for n in range(3)]  # noqa: E731
    assert grown("http_requests_total", ask, method="other", route="unmatched", status_class="4xx") == 3


def test_what_ingest_took_in_and_what_it_rejected_is_counted(api: Api) -> None:
    feature = make_feature(team=api.team)
    now = timezone.now().isoformat()
    good, bad = item(feature, started_at=now), item(feature, started_at=now, duration_ms=-1)
    mixed = lambda: api.post({"measurements": [good, good, bad]})  # noqa: E731
    assert grown("ingest_measurements_accepted_total", mixed) == 2
    assert grown("ingest_items_rejected_total", mixed, code="negative_duration") == 1
    assert grown("ingest_batches_total", mixed) == 1
    body = b'{"measurements": []}'
    assert grown("ingest_received_bytes_total", lambda: api.post(body)) == len(body)
    assert grown("ingest_batches_total", lambda: api.post(body)) == 0


def test_a_replay_counts_as_a_replay_and_nothing_twice(api: Api) -> None:
    feature = make_feature(team=api.team)
    body = {"measurements": [item(feature, started_at=timezone.now().isoformat())]}
    api.post(body, idempotency_key="a")
    again = lambda: api.post(body, idempotency_key="a")  # noqa: E731
    assert grown("ingest_measurements_accepted_total", again) == 0
    assert grown("ingest_replays_total", again) == 1


def test_the_backlog_and_its_age_are_those_of_the_database(api: Api) -> None:
    assert value("pending_batches") == value("oldest_pending_batch_age_seconds") == 0
    feature = make_feature(team=api.team)
    started_at = timezone.now().isoformat()
    for _ in range(2):
        api.post({"measurements": [item(feature, started_at=started_at)] * 3})
    Batch.objects.filter(pk=Batch.objects.earliest("id").pk).update(
        received_at=timezone.now() - timedelta(seconds=90)
    )
    assert (value("pending_batches"), value("pending_measurements")) == (2, 6)
    assert 90 <= value("oldest_pending_batch_age_seconds") < 120
    while rollups.roll_up(now=timezone.now()).is_more:
        pass
    assert (value("pending_batches"), value("pending_measurements")) == (0, 0)
    assert value("rollup_delay_seconds", quantile="1") >= 90
    assert value("rollup_delay_seconds", quantile="0.5") >= 45


def test_batches_that_were_set_aside_are_counted(api: Api) -> None:
    feature = make_feature(team=api.team)
    api.post({"measurements": [item(feature, started_at=timezone.now().isoformat())]})
    Batch.objects.update(state="failed", failed_at=timezone.now(), failure="broken")
    assert (value("failed_batches"), value("pending_batches")) == (1, 0)


def test_every_sweep_tells_its_age(db: None) -> None:
    for name, seconds in (("roll_up", 1), ("evaluate", 70)):
        Sweep.objects.create(name=name, finished_at=timezone.now() - timedelta(seconds=seconds))
    assert 1 <= value("sweep_age_seconds", sweep="roll_up") < 30
    assert 70 <= value("sweep_age_seconds", sweep="evaluate") < 100


def test_messages_are_counted_by_state_and_tries_by_kind_and_outcome(api: Api) -> None:
    channel = make_channel(api.team)
    incident = make_incident(make_feature(team=api.team))
    now = timezone.now()
    fields = {"incident": incident, "channel": channel, "severity": "page", "data": {}, "created_at": now}
    pending = Notification.objects.create(
        **fields, event="incident.opened", next_attempt_at=now - timedelta(seconds=40)
    )
    Notification.objects.create(**fields, event="incident.resolved", state="delivered", finished_at=now)
    for number, outcome in enumerate(("failed", "failed", "sending"), start=1):
        DeliveryAttempt.objects.create(
            notification=pending,
            number=number,
            outcome=outcome,
            started_at=now,
            error="no" if outcome == "failed" else "",
        )
    assert value("notifications", state="pending") == 1
    assert value("notifications", state="delivered") == 1
    assert value("notifications", state="undeliverable") == 0
    assert value("delivery_attempts_total", kind="webhook", outcome="failed") == 2
    assert 40 <= value("oldest_due_notification_age_seconds") < 70


def make_incident(feature: Feature) -> Incident:
    return Incident.objects.create(
        feature=feature,
        environment="production",
        milestone="complete",
        severity="page",
        summary="secret-summary",
        opened_at=timezone.now(),
    )


def test_partitions_ahead_are_counted_up_to_the_first_gap(db: None) -> None:
    now = timezone.now()
    partitions.ensure_ahead(now)
    assert value("partitions_ahead", table="budgets_measurement") == partitions.DAYS_AHEAD
    day = (now + timedelta(days=3)).date()
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE "budgets_measurement_{day:%Y%m%d}"')
    assert value("partitions_ahead", table="budgets_measurement") == 2


def test_they_say_what_runs_here_and_what_answers(db: None, settings: Settings) -> None:
    found = values(asked())
    assert found[("database_up", frozenset())] == found[("broker_up", frozenset())] == 1
    [labels] = [dict(labels) for name, labels in found if name == "build_info"]
    assert labels["version"] == settings.VERSION


def test_without_a_database_they_say_so_and_what_the_web_processes_counted(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 1")
        cursor.execute("ALTER TABLE budgets_batch RENAME TO gone")
    found = values(asked())
    assert found[("database_up", frozenset())] == 0
    assert ("pending_batches", frozenset()) not in found
    assert any(name == "http_requests_total" for name, _ in found)


# -- objectives -------------------------------------------------------------------------------------


def test_objectives_are_told_by_feature_environment_and_milestone(api: Api) -> None:
    feature = make_feature(team=api.team)
    now = timezone.now()
    make_traffic(feature, at=now - timedelta(minutes=2), count=100, over=3, milestone="first_token", now=now)
    labels = {"feature": feature.slug, "environment": "production", "milestone": "first_token"}
    found = values(asked())

    def told(name: str, **more: str) -> float:
        return found[(name, frozenset((labels | more).items()))]

    assert told("latency_budget_seconds") == 3
    assert told("objective_ratio") == 0.99
    assert told("sli_ratio") == pytest.approx(0.97)
    assert told("error_budget_remaining_ratio") == pytest.approx(-2)
    assert told("burn_rate", window="5m") == told("burn_rate", window="3d") == pytest.approx(3)
    assert (told("good_requests_total"), told("bad_requests_total")) == (97, 3)


def test_a_milestone_of_which_nothing_was_judged_lately_has_counters_and_no_ratios(api: Api) -> None:
    feature = make_feature(team=api.team)
    now = timezone.now()
    make_traffic(feature, at=now - timedelta(hours=2), count=10, over=0, milestone="first_token", now=now)
    names = {
        (name, dict(labels).get("window"))
        for name, labels in values(asked())
        if ("feature", feature.slug) in labels
    }
    assert ("good_requests_total", None) in names
    assert ("burn_rate", "1d") in names
    assert ("burn_rate", "5m") not in names


def test_open_incidents_are_counted_by_severity(api: Api) -> None:
    assert (value("open_incidents", severity="page"), value("open_incidents", severity="ticket")) == (0, 0)
    incident = make_incident(make_feature(team=api.team))
    assert value("open_incidents", severity="page") == 1
    Incident.objects.filter(pk=incident.pk).update(
        state="resolved", resolved_at=timezone.now(), resolved_reason="recovered"
    )
    assert value("open_incidents", severity="page") == 0


def test_what_was_read_is_told_again_for_some_seconds(
    api: Api, settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    asked()
    settings.METRICS_CACHE_SECONDS = 60
    with django_assert_num_queries(0):
        assert value("open_incidents", severity="page") == 0


# -- several processes ------------------------------------------------------------------------------


@pytest.fixture
def port(transactional_db: None) -> Iterator[int]:
    with web_server(workers=2, METRICS_TOKEN=TOKEN) as port:
        yield port


def test_each_web_process_tells_what_all_of_them_counted(port: int) -> None:
    """Over connections of their own, which the two processes share out among themselves."""

    def ask(path: str, **headers: str) -> str:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("GET", path, headers=headers)
        text = client.getresponse().read().decode()
        client.close()
        return text

    def count() -> float:
        labels = {"method": "GET", "route": "/api/v1/features", "status_class": "4xx"}
        found = values(ask("/metrics", Authorization=f"Bearer {TOKEN}"))
        return found.get(("http_requests_total", frozenset(labels.items())), 0.0)

    before = count()
    threads = [threading.Thread(target=ask, args=("/api/v1/features",)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whichever answers.
    assert {count() - before for _ in range(10)} == {40}


def test_the_files_that_web_processes_count_in_are_where_the_setting_says(
    port: int, settings: Settings
) -> None:
    assert len(list(Path(settings.METRICS_DIR).glob("counter_*.db"))) >= 2
    assert metrics._multiprocess_folder() == ""  # and this process, which is no web server, counts for itself
