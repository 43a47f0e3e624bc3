"""`make bench` measures what it says it does: a run at a tiny size, whose times mean nothing."""

from __future__ import annotations

import doctest
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import benchmarks.__main__
from benchmarks import alerting, copies, drawing, report, traffic
from benchmarks.__main__ import main
from benchmarks.report import Aim, Figure, Section
from benchmarks.scale import SCALES
from tests.children import eventually
from tests.plugins.servers import temporary_data_dir

PROJECT = Path(__file__).parents[2]


# -- a run ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    folder: Path  # where it made its data folders
    printed: str
    document: dict[str, Any]

    def row(self, benchmark: str, label: str) -> dict[str, Any]:
        rows = self.document["benchmarks"][benchmark]["rows"]
        return next(row["figures"] for row in rows if row["label"] == label)

    def aims(self) -> list[dict[str, Any]]:
        return [aim for section in self.document["benchmarks"].values() for aim in section["aims"]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with temporary_data_dir() as folder:
        results = folder / "results"
        # Settings of the caller must change nothing: this database does not exist.
        environment = {**os.environ, "TMPDIR": str(folder), "DATABASE_URL": "postgres://127.0.0.1:1/nothing"}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--scale", "tiny", "--results", str(results)],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        [kept] = results.glob("*.json")
        assert str(kept) in done.stdout
        yield Run(folder, done.stdout, msgspec.json.decode(kept.read_bytes()))


@pytest.mark.processes
@pytest.mark.parametrize(
    "label",
    [
        "1 a request, 1 client",
        "100 a request, 1 client",
        "1000 a request, 1 client",
        "1000 a request, 2 clients",
    ],
)
def test_ingest_is_measured_beside_a_plain_endpoint_and_bare_copy(run: Run, label: str) -> None:
    figures = run.row("ingest", label)
    for name in ("product", "DRF", "COPY"):
        assert figures[name]["value"] > 0
        assert len(figures[name]["samples"]) == 1
    for other in ("DRF", "COPY"):
        expected = figures["product"]["value"] / figures[other]["value"]
        assert figures[f"÷ {other}"]["value"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.processes
def test_roll_up_is_measured_against_the_rate_at_which_its_backlog_was_posted(run: Run) -> None:
    posted = run.row("rollup", "posted by one client, 1000 a request")[""]["value"]
    rolled_up = run.row("rollup", "rolled up by one worker")[""]["value"]
    seconds = run.row("rollup", "until none was pending")[""]["value"]
    assert rolled_up * seconds == pytest.approx(3000, rel=1e-3)
    [aim] = run.document["benchmarks"]["rollup"]["aims"]
    assert aim["value"] == pytest.approx(rolled_up / posted, rel=1e-4)


@pytest.mark.processes
@pytest.mark.parametrize("label", ["rolled up", "webhook arrived"])
def test_delays_are_percentiles_of_every_try(run: Run, label: str) -> None:
    figures = run.row("delay", label)
    samples = figures["p95"]["samples"]
    assert len(samples) == 2
    assert figures["p50"]["value"] == min(samples) > 0
    assert figures["p95"]["value"] == figures["longest"]["value"] == max(samples)


@pytest.mark.processes
def test_status_from_rollups_is_measured_beside_percentiles_from_raw(run: Run) -> None:
    rows = {
        "status, 28 days",
        "time series of a series, 28 days by hour",
        "time series of a series, 1 day by minute",
        "percentile_cont on raw, 1 day",
    }
    for label in rows:
        figures = run.row("status", label)
        assert len(figures[""]["samples"]) == 2
        assert figures["p95"]["value"] == max(figures[""]["samples"]) > 0
        assert 0 < figures["queries"]["value"] < 10


@pytest.mark.processes
def test_rules_are_evaluated_while_all_is_quiet_and_while_all_of_them_fire(run: Run) -> None:
    quiet, begins, goes_on = (
        run.row("evaluation", label)
        for label in ("all quiet", "everything begins to fire", "everything goes on firing")
    )
    # Of each of four features: two milestones with five tiers each, and five components.
    assert quiet["conditions"]["value"] == goes_on["conditions"]["value"] == 60
    assert quiet["states written"]["value"] == goes_on["states written"]["value"] == 0
    assert quiet["incidents opened"]["value"] == goes_on["incidents opened"]["value"] == 0
    assert begins["states written"]["value"] >= 4 * 7
    assert begins["incidents opened"]["value"] >= 4


@pytest.mark.processes
def test_percentiles_of_every_shape_are_within_what_is_promised(run: Run) -> None:
    rows = run.document["benchmarks"]["percentiles"]["rows"]
    assert len(rows) == 5
    errors = [row["figures"][name]["value"] for row in rows for name in ("p50", "p95", "p99", "p99.9")]
    assert max(errors) > 0
    # 2^(1/64) − 1, whatever the shape.
    assert max(errors) <= 1.089


@pytest.mark.processes
def test_bytes_grow_with_what_a_row_holds(run: Run) -> None:
    def size(label: str) -> float:
        value: float = run.row("storage", label)[""]["value"]
        return value

    bare, traced = size("raw measurement"), size("raw measurement with a trace id")
    spanned = size("raw measurement with trace id, span ids")
    labelled = size("raw measurement with all of these and labels")
    assert 50 < bare < traced < spanned < labelled < 500
    once, ten_times = (f"rollup, {n} a minute" for n in ("1 measurement", "10 measurements"))
    assert size(f"minute {once}") < size(f"minute {ten_times}") < size(f"hour {ten_times}")
    # Six bytes a bucket, and no more buckets than measurements.
    assert 6 <= run.row("storage", f"minute {once}")["of which histogram"]["value"] < 12


@pytest.mark.processes
def test_the_overview_sends_as_many_queries_for_few_features_as_for_many(run: Run) -> None:
    few, many = run.row("pages", "overview, 2 features"), run.row("pages", "overview, 5 features")
    assert few["queries"]["value"] == many["queries"]["value"] > 5
    assert few["size"]["value"] < many["size"]["value"]
    assert run.row("pages", "feature over 28 days")[""]["value"] > 0
    charts = [row["label"] for row in run.document["benchmarks"]["pages"]["rows"] if "chart" in row["label"]]
    assert len(charts) == len(set(charts)) > 6
    assert "its chart heatmap" in charts


@pytest.mark.processes
def test_a_browser_tells_when_the_first_chart_stands_and_what_jumped(run: Run) -> None:
    for width in (1280, 390):
        first = run.row("drawing", f"first chart of the feature's page, {width} px")
        assert first["p95"]["value"] >= first[""]["value"] > 0
        for page in ("overview", "feature", "incident"):
            assert run.row("drawing", f"layout shift of {page}, {width} px")[""]["value"] < drawing.AIM_SHIFT


@pytest.mark.processes
def test_an_hour_is_taken_in_while_pages_and_rules_go_on(run: Run) -> None:
    assert run.row("hour", "measurements") == {
        "as it happens, 1 s at 2000/s": {"value": 2000, "unit": ""},
        "0.0833 % of an hour at 2000/s, at once": {"value": 6000, "unit": ""},
    }
    for label in ("answer p50", "answer p99", "lag p95", "lag max", "page p50", "evaluated at least every"):
        assert all(figure["value"] > 0 for figure in run.row("hour", label).values())


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells of shared memory")
def test_memory_is_told_of_each_program_of_the_product(run: Run) -> None:
    rows = [row["label"] for row in run.document["benchmarks"]["hour"]["rows"]]
    programs = {label.removeprefix("memory: ").split(" (")[0] for label in rows if label.startswith("memory")}
    assert {"web", "worker", "deliver", "beat", "postgres", "valkey"} <= programs


@pytest.mark.processes
def test_growth_tells_how_many_times_slower_the_same_question_became(run: Run) -> None:
    for label in (
        "ingest over HTTP, of the same series",
        "roll-up, of all series in turn",
        "status of the same feature, 28 days",
        "time series of the same series, 1 day by minute",
        "evaluation of all rules",
        "dropping a day of raw measurements",
    ):
        figures = run.row("growth", label)
        expected = figures["large"]["value"] / figures["small"]["value"]
        assert figures["large ÷ small"]["value"] == pytest.approx(expected, rel=1e-3)
    rows = run.row("growth", "raw measurements")
    assert rows["small"]["value"] == 2500
    assert rows["large"]["value"] > 2500 + 10_000


@pytest.mark.processes
def test_every_aim_stands_beside_its_figure(run: Run) -> None:
    aims = {aim["label"]: (aim["aim"], aim["bound"]) for aim in run.aims()}
    assert aims == {
        "false pages in 30 days, the worst cell": ("≤", 0.1),
        "component tickets a day, the worst cell": ("≤", 0.1),
        "95 % of full outages from 300/h on, the slowest objective": ("≤", 6),
        "95 % of full outages from 6000/h on, the slowest objective": ("≤", 3),
        "5 % bad at 99.9 % from 300/h on, median": ("≤", 20),
        "1000 a request: product ÷ DRF": ("≥", 8.0),
        "1000 a request: product ÷ COPY": ("≥", 0.35),
        "roll-up ÷ ingest at 1000 a request": ("≥", 3.0),
        "status of 28 days": ("≤", 50.0),
        "evaluating all rules, all quiet": ("≤", 2.0),
        "p99.9, of all shapes the worst": ("≤", 1.1),
        "overview, 5 features": ("≤", 1000.0),
        "feature over 28 days": ("≤", 300.0),
        "queries of 5 features − of 2": ("≤", 0),
        "first chart drawn after navigation": ("<", 1500.0),
        "layout shift, the worst page and width": ("<", 0.1),
        "rolled up, p95": ("<", 2.0),
        "webhook arrived, p95": ("<", 2.0),
    }
    lines = run.printed.splitlines()
    for aim in run.aims():
        line = next(line for line in lines if line.strip().startswith(aim["label"]) and "aim" in line)
        assert line.endswith("reached" if aim["is_met"] else "MISSED")


@pytest.mark.processes
def test_nothing_is_left_running_and_no_data_is_left(run: Run) -> None:
    def of_the_run() -> list[str]:
        commands = subprocess.run(
            ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in commands.splitlines() if str(run.folder) in line]

    assert eventually(lambda: not of_the_run()), of_the_run()
    assert [path.name for path in run.folder.iterdir()] == ["results"]


def test_a_benchmark_that_does_not_exist_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "expected some of ingest, rollup, status, evaluation," in done.stderr
    assert "got nothing" in done.stderr


def test_a_scale_for_which_there_is_no_room_on_the_disk_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--scale", "large"])
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**12, 10**12, 2 * 10**9)
    )
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    written = capsys.readouterr().err
    assert f"needs {SCALES['large'].free_disk_gb:g} GB free" in written
    assert "there are 2.0 GB" in written


# -- what is sent -----------------------------------------------------------------------------------


def test_benchmarks_run_in_one_order_whatever_order_they_are_named_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`delay` ends the web process that the others post to."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "delay", "rollup", "ingest", "rollup"])
    assert benchmarks.__main__._options().names == ["ingest", "rollup", "delay"]


def test_copy_writes_the_same_measurements_as_are_posted() -> None:
    until = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
    [batch] = traffic.batches(count=1, size=50, until=until, lasting=timedelta(minutes=5), seed=3)
    items = msgspec.json.decode(batch.body)["measurements"]
    fields = [("fields", ">i2")]
    for name, kind in zip(traffic.COPY_COLUMNS, (">i8", ">f8", ">i8", ">i4", ">i2", "V16"), strict=True):
        fields += [(f"{name} length", ">i4"), (name, kind)]
    records = np.frombuffer(batch.copy_payload[19:-2], dtype=fields)
    assert len(records) == len(items) == 50
    for record, item in zip(records, items, strict=True):
        feature, target = traffic.SERIES[record["series_id"] - 1]
        assert item["feature"] == feature
        assert target.items() <= item.items()
        started_at = datetime.fromisoformat(item["started_at"])
        ended_at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(record["ended_at"]))
        assert ended_at - started_at == timedelta(milliseconds=item["duration_ms"])
        assert record["duration_ms"] == item["duration_ms"]
        assert ["ok", "error", "timeout"][record["status"]] == item["status"]
        assert record["trace_id"].tobytes().hex() == item["trace_id"]


def test_rows_with_nulls_and_bytes_are_written_field_by_field() -> None:
    columns = {
        "id": np.array([1, 2, 3], dtype=">i2"),
        "longest_ms": np.array([1.5, np.nan, 2.5], dtype=">f8"),
        "trace_id": np.array([b"\1" * 16, b"\0" * 16, b"\0" * 16], dtype="V16"),
    }
    payload = copies.of_numbers_and_bytes(columns, [b"one", b"", b"three"])
    assert payload.startswith(b"PGCOPY\n\xff\r\n\0")
    rows, at = [], 19
    while payload[at : at + 2] != b"\xff\xff":
        fields, at = [], at + 2
        for _ in range(4):
            length = int.from_bytes(payload[at : at + 4], "big", signed=True)
            fields.append(None if length < 0 else payload[at + 4 : at + 4 + length])
            at += 4 + max(0, length)
        rows.append(fields)
    assert sorted(rows, key=str) == sorted(
        [
            [b"\0\1", np.array(1.5, dtype=">f8").tobytes(), b"\1" * 16, b"one"],
            [b"\0\2", None, None, b""],
            [b"\0\3", np.array(2.5, dtype=">f8").tobytes(), None, b"three"],
        ],
        key=str,
    )


def test_batches_follow_each_other_up_to_the_end_and_hold_every_series() -> None:
    until = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
    made = list(traffic.batches(count=4, size=100, until=until, lasting=timedelta(minutes=4), seed=3))
    ended = [
        [
            at + timedelta(milliseconds=ms)
            for at, ms in zip(one.started_at, one.duration_ms.tolist(), strict=True)
        ]
        for one in made
    ]
    assert ended == [sorted(one) for one in ended]
    assert all(before[-1] <= after[0] for before, after in pairwise(ended))
    assert until - timedelta(minutes=4) <= ended[0][0] < ended[-1][-1] <= until
    assert all(set(one.series.tolist()) == set(range(24)) for one in made)


# -- what is told -----------------------------------------------------------------------------------


def test_an_aim_that_is_missed_is_said_in_the_table_and_at_the_end() -> None:
    aims = [Aim("a ÷ b", 2.5, "≥", 3.0), Aim("delay, p95", 1.25, "<", 2.0, "s")]
    section = Section(title="Some", rows={"row": {"a": Figure(5, "/s"), "b": Figure(2, "/s")}}, aims=aims)
    assert section.lines() == [
        "Some",
        "           a      b",
        "  row   5 /s   2 /s",
        "  a ÷ b           2.5     aim ≥ 3    MISSED",
        "  delay, p95   1.25 s   aim < 2 s   reached",
    ]
    assert report.missed({"some": section}) == ["a ÷ b: 2.5, the aim is ≥ 3"]


def test_numbers_read_as_their_examples_say() -> None:
    assert doctest.testmod(report).failed == 0


# -- the simulation of alerting ---------------------------------------------------------------------


@pytest.mark.processes
def test_alerting_is_simulated_in_health_and_with_slowdowns(run: Run) -> None:
    assert run.row("alerting", "300/h at 99.9 %, healthy").keys() == {
        "false pages in 30 d",
        "false tickets in 30 d",
        "component tickets a day",
    }
    outage = run.row("alerting", "6000/h at 90 %, 100 % bad")
    assert outage["not paged"]["value"] == 0
    assert len(outage["paged p50"]["samples"]) == 2
    labels = [row["label"] for row in run.document["benchmarks"]["alerting"]["rows"]]
    assert not any("90 %, 5 % bad" in label for label in labels), "what an objective allows is no slowdown"


def test_a_simulated_outage_is_paged_when_most_of_five_minutes_is_bad() -> None:
    delays = alerting.slow(alerting.Cell(6000, 0.9), 1.0, 4)
    assert delays.not_paged_percent == 0
    # Fewer than half of five minutes are bad before, and the third bad minute's last second decides.
    assert all(1.5 < minutes < 3.1 for minutes in delays.paged)
    assert delays.paged == delays.noticed


def test_a_simulated_slowdown_below_every_factor_is_missed() -> None:
    delays = alerting.slow(alerting.Cell(6000, 0.99), 0.02, 2)
    assert (delays.not_paged_percent, delays.not_noticed_percent) == (100, 100)
    assert delays.paged_within(50) == float("inf")


def test_pages_and_tickets_of_a_simulated_month_are_counted_by_incident(monkeypatch) -> None:
    cell = alerting.Cell(300, 0.9)
    assert {figure.value for figure in alerting.healthy(cell, 1).values()} == {0}
    monkeypatch.setattr(alerting.Cell, "healthy_ratio", 1.0)
    assert [figure.value for figure in alerting.healthy(cell, 1).values()] == [1, 0, pytest.approx(1 / 30)]
