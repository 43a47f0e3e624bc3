"""Files of recorded requests: what they hold, and what is said where they cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest

from budgets import replay

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
    document = replay.declaration([recording], feature=recording.feature, team="t")
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
