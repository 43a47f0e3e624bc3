"""Files of recorded requests: what they hold, and what is said where they cannot be read."""

import json
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from budgets import replay
from budgets.client import ApiClient, RefusedError
from budgets.keys import create_key
from budgets.models import Batch, Feature, IngestKey
from budgets.rollups import roll_up

DATA = Path(__file__).parent.parent / "data"
TOGETHER = DATA / "llmperf" / "together_70b.json"
BEDROCK = DATA / "llmperf" / "bedrock_13b.json"
ESHOPPER = DATA / "delag" / "eshopper" / "020.csv"
TRAINTICKET = DATA / "delag" / "trainticket" / "020.csv"


def test_llmperf_seconds_become_the_milestones_in_ms() -> None:
    recording = replay.read(TOGETHER)
    rows = json.loads(TOGETHER.read_text())
    assert (recording.format, recording.feature, recording.release) == ("llmperf", "llmperf", "together_70b")
    assert len(recording.requests) == 150
    assert recording.requests[0].milestones == {
        "first_token": pytest.approx(1000 * rows[0]["ttft_s"]),
        "complete": pytest.approx(1000 * rows[0]["end_to_end_latency_s"]),
    }
    assert recording.components == []


def test_llmperf_rows_with_an_error_code_are_errors() -> None:
    statuses = [request.status for request in replay.read(BEDROCK).requests]
    assert (statuses.count("error"), statuses.count("ok")) == (97, 53)


def test_an_llmperf_request_that_never_answered_ends_at_its_first_token(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    file.write_text(json.dumps([{"error_code": 429, "ttft_s": 0, "end_to_end_latency_s": 0}]))
    [request] = replay.read(file).requests
    assert (request.status, request.milestones) == ("error", {"first_token": 0})
    assert request.labels == {"error_code": "429"}


def test_an_llmperf_answer_that_was_not_streamed_has_no_first_token(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    file.write_text(json.dumps([{"error_code": None, "ttft_s": 0, "end_to_end_latency_s": 2.5}]))
    assert replay.read(file).requests[0].milestones == {"complete": 2500}


def test_a_delag_row_is_a_request_and_its_calls_are_components() -> None:
    recording = replay.read(ESHOPPER)
    assert (recording.format, recording.feature, recording.release) == ("delag", "delag-eshopper", "020")
    assert len(recording.requests) == 400
    assert len(recording.components) == 7
    first = recording.requests[0]
    assert first.milestones == {"complete": 390}
    assert first.components["GatewayGet"] == 127
    assert "anomaly" not in first.components


def test_the_injected_anomalies_of_delag_become_a_label() -> None:
    labels = [request.labels for request in replay.read(TRAINTICKET).requests]
    assert labels.count(None) == 319
    assert labels.count({"anomaly": "1"}) == 37


def test_nested_calls_are_declared_without_allocations() -> None:
    recording = replay.read(TRAINTICKET)
    totals = [request.milestones["complete"] for request in recording.requests]
    sums = [sum(request.components.values()) for request in recording.requests]
    assert np.mean(sums) > 1.5 * np.mean(totals)
    document = replay.declaration([recording], feature=recording.feature)
    [budget] = document["latency_budgets"]
    assert document["components"] == recording.components
    assert "allocations" not in budget
    assert budget["budget_ms"] >= np.quantile(totals, 0.95, method="inverted_cdf")


def test_requests_lie_at_even_distances_and_keep_their_trace_ids() -> None:
    recordings = [replay.read(TOGETHER), replay.read(BEDROCK)]
    laid_out = list(replay.requests(recordings, start=1_000_000.0, rate=4))
    assert [item["started_at"] for item in laid_out] == [1_000_000 + number / 4 for number in range(300)]
    assert [item["release"] for item in laid_out] == ["together_70b"] * 150 + ["bedrock_13b"] * 150
    assert len({item["trace_id"] for item in laid_out}) == 300
    assert laid_out == list(replay.requests(recordings, start=1_000_000.0, rate=4))
    end = max(item["started_at"] + max(item["milestones"].values()) / 1000 for item in laid_out)
    assert replay.last_end_s(recordings, rate=4) == pytest.approx(end - 1_000_000)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "", "the format is not known"),
        ("other.csv", "a,b\n1,2\n", "the format is not known"),
        ("other.json", '{"a": 1}', "not a list of llmperf's requests"),
        ("broken.json", '[{"ttft_s": 1,', "is not valid JSON"),
        ("deep.json", "[" * 100_000, "is not valid JSON"),
        ("none.json", "[]", "holds no request"),
        ("none.csv", "Latency,a\n", "holds no request"),
        ("binary.csv", "Latency\n\x80", "is not UTF-8"),
        ("text.csv", "Latency,a\n1,2\n3,x\n", "row 2, field a: expected a number ≥ 0, got 'x'"),
        ("negative.csv", "Latency,a\n-1,2\n", "row 1, field Latency: expected a number ≥ 0, got '-1'"),
        ("short.csv", "Latency,a\n1,2\n3\n", "row 2 (line 3): expected 2 fields, got 1"),
        ("twice.csv", "Latency,a,a\n1,2,3\n", "'a' stands there more than once"),
        (
            "nan.json",
            '[{"ttft_s": NaN, "end_to_end_latency_s": 1, "error_code": null}]',
            "row 1, field ttft_s: expected a number ≥ 0",
        ),
        (
            "string.json",
            '[{"ttft_s": 1, "end_to_end_latency_s": 1}, {"ttft_s": 1, "end_to_end_latency_s": "slow"}]',
            "row 2, field end_to_end_latency_s: expected a number ≥ 0, got 'slow'",
        ),
        ("list.json", '[{"ttft_s": 1, "end_to_end_latency_s": 1}, 7]', "row 2: expected an object, got 7"),
    ],
)
def test_what_cannot_be_read_names_file_row_and_field(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode("latin-1" if "\x80" in content else "utf-8"))
    with pytest.raises(replay.UnreadableError) as refused:
        replay.read(file)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(replay.UnreadableError, match=r"missing\.json: No such file"):
        replay.read(tmp_path / "missing.json")


# -- Over HTTP ------------------------------------------------------------------------------------
WITHIN = 0.011  # half a bucket of a scale-6 histogram is 0.54 %, a whole one 1.09 %


@pytest.fixture(scope="session")
def static_root() -> None:
    """The folder of the static files, which the web server's middleware wants to be there."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def server(transactional_db: None, static_root: None, live_server: Any) -> str:
    return live_server.url


@pytest.fixture
def token() -> str:
    _, plain = create_key(
        team_slug="t", name="test", scopes=["ingest", "read", "write"], actor="a test", now=timezone.now()
    )
    return plain


def replayed(server: str, token: str, *files: Path, **options: Any) -> str:
    out = StringIO()
    call_command(
        "replay",
        *map(str, files),
        url=server,
        key=token,
        stdout=out,
        stderr=out,
        **({"rate": 500.0} | options),
    )
    roll_up(now=timezone.now())
    return out.getvalue()


def status(server: str, token: str, feature: str, milestone: str, release: str) -> dict[str, Any]:
    query = f"milestone={milestone}&release={release}&window=1h"
    headers = {"Authorization": f"Bearer {token}"}
    request = Request(f"{server}/api/v1/features/{feature}/status?{query}", headers=headers)  # noqa: S310
    with urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def assert_percentiles(answered: dict[str, float], durations: Sequence[float]) -> None:
    for name, answer in answered.items():
        exact = np.quantile(durations, int(name[1:]) / 100, method="inverted_cdf")
        assert answer == pytest.approx(exact, rel=WITHIN), name


@pytest.mark.parametrize("file", [TOGETHER, BEDROCK])
def test_replayed_llmperf_runs_answer_with_numpys_percentiles_and_exact_counts(
    server: str, token: str, file: Path
) -> None:
    replayed(server, token, TOGETHER, BEDROCK)
    rows = json.loads(file.read_text())
    well = [row for row in rows if row["error_code"] is None]

    complete = status(server, token, "llmperf", "complete", file.stem)
    totals = [1000 * row["end_to_end_latency_s"] for row in well]
    assert complete["total"] == complete["judged"] == len(rows)
    assert complete["errors"] == len(rows) - len(well)
    assert complete["good"] == sum(total <= 8000 for total in totals)
    assert_percentiles(complete["percentiles_ms"], totals)

    # Every row has a first token, also those that failed after it.
    first_token = status(server, token, "llmperf", "first_token", file.stem)
    times = [1000 * row["ttft_s"] for row in rows]
    assert (first_token["total"], first_token["errors"]) == (len(rows), 0)
    assert first_token["good"] == sum(time <= 3000 for time in times)
    assert_percentiles(first_token["percentiles_ms"], times)


@pytest.mark.parametrize("file", [ESHOPPER, TRAINTICKET])
def test_replayed_delag_rows_answer_with_numpys_percentiles_for_every_component(
    server: str, token: str, file: Path
) -> None:
    said = replayed(server, token, file)
    header, *rows = [line.split(",") for line in file.read_text().splitlines()]
    columns = {name: [float(row[index]) for row in rows] for index, name in enumerate(header)}
    feature = f"delag-{file.parent.name}"

    answer = status(server, token, feature, "complete", "020")
    budget_ms = answer["latency_budget"]["budget_ms"]
    assert answer["total"] == answer["judged"] == 400
    assert answer["good"] == sum(latency <= budget_ms for latency in columns["Latency"])
    assert_percentiles(answer["percentiles_ms"], columns["Latency"])
    components = {component["component"]: component for component in answer["components"]}
    assert set(components) == set(header) - {"Latency", "anomaly"}
    for name, component in components.items():
        assert (component["total"], component["state"]) == (400, "unallocated")
        assert_percentiles(component["percentiles_ms"], columns[name])
    assert f"Accepted {400 * (len(header) - 1)} measurements, rejected 0 requests." in said
    assert "they add up to more than its total" in said


def test_a_declared_feature_keeps_its_budgets_and_gains_the_components_it_lacks(
    server: str, token: str
) -> None:
    budget = {"milestone": "complete", "budget_ms": 450, "objective": 0.9, "window_days": 7}
    document = {"name": "Shop", "components": ["GatewayGet"], "latency_budgets": [budget]}
    with ApiClient(server, token) as client:
        client.put_feature("shop", document)
        said = replayed(server, token, ESHOPPER, feature="shop")
        declared = client.get_feature("shop")
    assert declared is not None
    assert len(declared["components"]) == 7
    assert declared["components"][0] == "GatewayGet"
    assert declared["latency_budgets"][0]["budget_ms"] == 450
    assert len(declared["versions"]) == 1
    assert "Added 6 components to shop" in said


def test_a_key_that_may_not_declare_is_told_what_it_lacks(server: str) -> None:
    _, plain = create_key(
        team_slug="t", name="ingest only", scopes=["ingest"], actor="a test", now=timezone.now()
    )
    with pytest.raises(CommandError, match=r"scopes ingest, read and write.*Nothing was posted"):
        replayed(server, plain, TOGETHER)
    assert not Batch.objects.exists()


def test_what_the_server_rejects_is_counted_with_its_reason_and_exits_with_1(server: str, token: str) -> None:
    out = StringIO()
    with pytest.raises(CommandError, match=r"^150 requests were rejected") as rejected:
        call_command(
            "replay",
            str(TOGETHER),
            url=server,
            key=token,
            start=datetime(2020, 1, 1, tzinfo=UTC),
            stdout=out,
            stderr=out,
        )
    assert rejected.value.returncode == 1
    assert "Accepted 0 measurements, rejected 150 requests." in out.getvalue()
    assert "150 × too_old, the first: It ended at 2020-01-01T00:00:0" in out.getvalue()


def test_a_busy_server_is_asked_again_when_it_says(server: str, token: str, settings: Any) -> None:
    settings.INGEST_MAX_BACKLOG = -1
    with ApiClient(server, token) as client, pytest.raises(RefusedError) as refused:
        client.post_measurements(b"{}", idempotency_key="one")
    assert (refused.value.status, refused.value.is_busy) == (429, True)
    assert refused.value.retry_after_s is not None

    def relieve() -> None:
        settings.INGEST_MAX_BACKLOG = 1_000_000

    timer = threading.Timer(1.0, relieve)
    timer.start()
    said = replayed(server, token, TOGETHER)
    timer.join()
    assert "Accepted 300 measurements, rejected 0 requests." in said


def test_a_server_that_is_not_there_is_named(transactional_db: None) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(CommandError, match=rf"^{url} does not answer.*Accepted 0 measurements"):
            replayed(url, "ld_aaaaaaaa_none", TOGETHER)


def test_at_ten_times_real_time_a_request_is_posted_when_it_has_ended(server: str, token: str) -> None:
    """150 requests at 50 a second last 3 s and their answers 3 s more: at speed 10 they are posted in 0.6 s."""
    began = time.monotonic()
    before = timezone.now()
    replayed(server, token, TOGETHER, rate=50.0, speed=10.0)
    assert time.monotonic() - began >= 0.5
    assert Batch.objects.count() >= 2
    assert all(batch.ended_to <= batch.received_at for batch in Batch.objects.all())
    span_s = replay.last_end_s([replay.read(TOGETHER)], rate=50.0)
    last = max(batch.ended_to for batch in Batch.objects.all())
    assert abs((last - before).total_seconds() - span_s / 10) < 1


def test_requests_that_would_end_after_they_are_posted_are_refused(server: str, token: str) -> None:
    start = timezone.now() + timedelta(minutes=10)
    with pytest.raises(CommandError, match="s after they are posted"):
        replayed(server, token, TOGETHER, start=start)


def test_without_a_key_one_is_made_for_the_team_that_owns_the_feature(
    server: str, token: str, settings: Any
) -> None:
    settings.PORT = server.rsplit(":", 1)[1]
    out = StringIO()
    call_command("replay", str(TOGETHER), feature="chat", team="ours", rate=500.0, stdout=out)
    call_command("replay", str(BEDROCK), feature="chat", rate=500.0, stdout=out)
    assert Feature.objects.get(slug="chat").team.slug == "ours"
    assert {key.team.slug for key in IngestKey.objects.filter(name="replay")} == {"ours"}
    assert all(key.expires_at for key in IngestKey.objects.filter(name="replay"))


@pytest.mark.django_db
def test_a_key_is_required_for_another_server() -> None:
    with pytest.raises(CommandError, match="Give --key"):
        call_command("replay", str(TOGETHER), url="http://elsewhere.example")


@pytest.mark.parametrize(
    "option", ["--start=yesterday", "--start=2026-13-01T00:00:00Z", "--speed=fast", "--speed=-1", "--rate=0"]
)
def test_a_wrong_option_is_named_with_what_was_expected(option: str) -> None:
    with pytest.raises(CommandError, match=rf"{option.split('=')[0]}: expected .*got"):
        call_command("replay", str(TOGETHER), option)
