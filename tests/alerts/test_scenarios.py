"""Scenarios: alerts tested as code, by the rules themselves."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rule_parameters import DEFAULTS
from alerts.scenario_documents import Budget, Unsound, read_scenarios
from alerts.scenarios import Difference, differences
from alerts.series_notation import expand, read_duration
from tests.children import PROJECT

MINUTE = timedelta(minutes=1)


# -- notation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        # The examples of promtool's documentation, those without negative samples.
        ("1x4", [1, 1, 1, 1, 1]),
        ("4x1", [4, 4]),
        ("1 _x3 2", [1, 0, 0, 0, 2]),
        ("2+4x3", [2, 6, 10, 14]),
        ("7-2x3", [7, 5, 3, 1]),
        ("_", [0]),
        ("3", [3]),
        ("5x0", [5]),
        ("_x0", []),
    ],
)
def test_series_are_expanded_as_promtool_does(text, counts):
    assert expand(text) == counts


@pytest.mark.parametrize(
    "text", ["a", "1+", "1x", "-1", "1.5", "1+2", "stale", "3-2x5", "1x99999999", "9" * 30]
)
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ValueError, match=r"Expected counts|at most|between"):
        expand(text)


@given(st.text(alphabet="0123456789+-x_ stale", max_size=30))
def test_any_text_is_expanded_or_refused(text):
    with contextlib.suppress(ValueError):
        assert all(count >= 0 for count in expand(text))


@pytest.mark.parametrize(
    ("text", "minutes"), [("63m", 63), ("1h30m", 90), ("3d", 4320), ("0s", 0), ("90s", 1.5)]
)
def test_durations_are_prometheus_durations(text, minutes):
    assert read_duration(text) == minutes * MINUTE


@pytest.mark.parametrize("text", ["", "63", "1.5h", "5m1h", "-5m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="Expected a duration"):
        read_duration(text)


# -- what comes of a scenario --------------------------------------------------------------------------


def nothing_declared(file: str, feature: str) -> Mapping[str, Budget]:
    raise Unsound(f"{file} declares nothing")


def document(
    *expected: Mapping[str, Any], series: Mapping[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """An outage of 20 minutes after an hour of health, of a milestone at 99 %."""
    counts = series or {"good": "10x59 0x19 10x119", "bad": "0x59 10x19 0x119"}
    return {
        "milestone": "first_token",
        "objective": 0.99,
        "window_days": 28,
        "tests": [
            {
                "name": "an outage",
                "input_series": [{"series": name, "values": values} for name, values in counts.items()],
                "alert_rule_test": list(expected) or [{"eval_time": "1m", "exp_incident": "none"}],
            }
        ],
        **fields,
    }


def tried(*expected: Mapping[str, Any], **fields: Any) -> list[Difference]:
    [scenario] = read_scenarios(
        {k: v for k, v in document(*expected, **fields).items() if v is not ...}, nothing_declared
    )
    return differences(scenario)


def test_what_comes_as_expected_is_no_difference():
    assert not tried(
        {
            "eval_time": "60m",
            "exp_states": {"outage": "inactive"},
            "exp_severity": "none",
            "exp_incident": "none",
        },
        {
            "eval_time": "63m",
            "exp_states": {"outage": "firing"},
            "exp_severity": "page",
            "exp_incident": "open",
        },
        {"eval_time": "83m", "exp_states": {"outage": "recovering"}, "exp_incident": "open"},
        {"eval_time": "90m", "exp_states": {"outage": "inactive"}, "exp_severity": "page"},
        {"eval_time": "600m", "exp_states": {"1h/5m": "inactive"}},
    )


def test_a_difference_says_what_was_expected_what_came_and_by_which_numbers():
    [one] = tried({"eval_time": "62m", "exp_states": {"outage": "firing"}})
    assert (one.what, one.expected, one.came) == ("state of outage", "firing", "inactive")
    assert one.numbers.startswith("no_outage: min_bad 10, long 5m judged 40 bad 20")
    assert "changed: firing at 62m59s, recovering at 81m" in one.numbers


def test_the_severity_and_the_incident_are_compared():
    found = tried({"eval_time": "63m", "exp_severity": "ticket", "exp_incident": "resolved"})
    assert [(one.what, one.expected, one.came) for one in found] == [
        ("severity", "ticket", "page"),
        ("incident", "resolved", "open"),
    ]
    assert "outage firing at 62m59s" in found[0].numbers


def test_an_incident_ends_when_nothing_fires_any_more():
    series = {"over": "0x59 20x4 0x59", "bad": "0x59 20x4 0x59", "good": "20x59 0x4 20x59"}
    component = {"milestone": ..., "component": "tools", "series": series}
    assert not tried(
        {"eval_time": "62m", "exp_states": {"tools": "firing"}, "exp_severity": "ticket"},
        {"eval_time": "90m", "exp_incident": "resolved", "exp_severity": "none"},
        **component,
    )


def test_rules_take_their_kind_timing_severity_and_parameters():
    rules = [
        {"kind": "component_overrun", "severity": "page", "for_seconds": 120},
        {"kind": "timeouts", "parameters": {"share_ratio": 0.5, "min_timeouts": 4}},
    ]
    series = {"good": "20x9 15x9", "bad": "0x9 5x9", "timeouts": "0x9 5x9"}
    assert not tried(
        {
            "eval_time": "12m",
            "exp_states": {"component_overrun tools": "pending", "timeouts tools": "inactive"},
        },
        {"eval_time": "19m", "exp_states": {"component_overrun tools": "firing"}, "exp_severity": "page"},
        milestone=...,
        component="tools",
        rules=rules,
        series=series,
    )


# Of each kind: the rule, its series, and what is expected when.
KINDS: dict[str, tuple[dict[str, Any], dict[str, str], list[dict[str, Any]]]] = {
    "threshold": (
        {"parameters": {"threshold_ms": 1000}, "for_seconds": 300},
        {"p95_ms": "900x10 2400x20 900x9"},
        [
            {"eval_time": "12m", "exp_states": {"p95": "pending"}, "exp_incident": "none"},
            {"eval_time": "17m", "exp_states": {"p95": "firing"}, "exp_severity": "ticket"},
            {"eval_time": "33m", "exp_states": {"p95": "recovering"}},
        ],
    ),
    "trend": (
        {"parameters": {"growth_ratio": 1.5}},
        {"p95_ms": "900x2879 1500x2879"},
        [
            {"eval_time": "2d6h", "exp_states": {"24h": "inactive"}},
            {"eval_time": "2d16h", "exp_states": {"24h": "firing"}, "exp_incident": "open"},
        ],
    ),
    "error_budget": (
        {"parameters": {"remaining_percents": [50, 0]}},
        {"good": "100x10079 0x59 100x1000", "bad": "0x10079 100x59"},
        [
            # 1 % of the week is 100.8 minutes of it, half of that 50.4.
            {"eval_time": "168h49m", "exp_states": {"50": "inactive"}},
            {"eval_time": "168h52m", "exp_states": {"50": "firing", "0": "inactive"}},
        ],
    ),
    "forecast": (
        {},
        {"good": "100x10079 90x600", "bad": "0x10079 10x600"},
        [
            {"eval_time": "168h", "exp_states": {"48h": "inactive"}},
            {"eval_time": "173h", "exp_states": {"48h": "firing"}},
        ],
    ),
    "no_data": (
        {"parameters": {"silent_minutes": 15}},
        {"good": "5x89 _x30 5"},
        [
            {"eval_time": "104m", "exp_states": {"milestone:first_token": "inactive"}},
            {"eval_time": "105m", "exp_states": {"milestone:first_token": "firing"}},
            {"eval_time": "121m", "exp_states": {"milestone:first_token": "recovering"}},
        ],
    ),
    "unallocated_component": (
        {"parameters": {"share_ratio": 0.1}},
        {"good": "5x119", "component_ms": "0x59 500x59", "milestone_ms": "2500x119"},
        [
            {"eval_time": "70m", "exp_states": {"tools": "inactive"}},
            {"eval_time": "95m", "exp_states": {"tools": "firing"}},
        ],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_of_every_kind_is_tested(kind):
    rule, series, expected = KINDS[kind]
    component = {"milestone": ..., "component": "tools"} if kind == "unallocated_component" else {}
    promise = {} if kind in {"error_budget", "forecast"} else {"objective": ...}
    found = tried(
        *expected, rules=[{"kind": kind, **rule}], series=series, **{"window_days": 7, **component, **promise}
    )
    assert found == []
    # Everything before its time is a difference.
    wrong = [{**one, "exp_states": dict.fromkeys(one["exp_states"], "firing")} for one in expected[:1]]
    [one] = tried(
        *wrong, rules=[{"kind": kind, **rule}], series=series, **{"window_days": 7, **component, **promise}
    )[:1]
    assert one.expected == "firing"
    assert one.numbers


def test_every_kind_of_rule_can_be_tested():
    assert {"burn_rate", "component_overrun", "timeouts", *KINDS} == set(DEFAULTS)


@pytest.mark.parametrize(
    ("rule", "path", "said"),
    [
        ({"kind": "threshold"}, ("parameters", "threshold_ms"), "threshold needs threshold_ms"),
        (
            {"kind": "trend", "parameters": {"growth_ratio": 1}},
            ("parameters", "growth_ratio"),
            "between 1 and 100",
        ),
        ({"kind": "no_data", "parameters": {"minutes": 5}}, ("parameters", "minutes"), "no such parameter"),
    ],
)
def test_parameters_are_refused_as_they_are_where_a_rule_is_saved(rule, path, said):
    with pytest.raises(Unsound, match=re.escape(said)) as refused:
        read_scenarios(document(rules=[rule]), nothing_declared)
    assert refused.value.path == ("rules", 0, *path)


def test_a_series_that_a_rule_looks_at_must_be_given():
    threshold = {"kind": "threshold", "parameters": {"threshold_ms": 5, "percentile": "p99"}}
    with pytest.raises(Unsound, match="A rule looks at p99_ms"):
        read_scenarios(document(rules=[threshold], series={"p95_ms": "1x5"}), nothing_declared)


def test_of_few_measurements_a_percentile_that_is_stated_says_little():
    rule = {"kind": "threshold", "parameters": {"threshold_ms": 1000}}
    series = {"p95_ms": "2400x20", "good": "1x20"}
    assert not tried({"eval_time": "15m", "exp_states": {"p95": "inactive"}}, rules=[rule], series=series)


def test_errors_are_bad_and_over_nothing():
    series = {"good": "20x9 10x9", "bad": "0x9 10x9", "errors": "0x9 10x9"}
    assert not tried(
        {"eval_time": "19m", "exp_incident": "none"}, milestone=..., component="tools", series=series
    )


def test_a_promise_is_taken_from_a_declaration():
    budgets = {"first_token": Budget(0.999, 30, ("model", "tools"))}
    one = document(declared_in="budgets.yaml", feature="chat", component="tools")
    for field in ("objective", "window_days", "milestone"):
        del one[field]
    [scenario] = read_scenarios(
        one, lambda file, feature: {"budgets.yaml chat": budgets}[f"{file} {feature}"]
    )
    assert scenario.rules["tools"].objective == 0.999  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"milestone": "last_token"}, ("milestone",), "first_token, complete"),
        ({"component": "tools"}, (), "name one of them"),
        ({"objective": 1}, ("objective",), "between 0 and 1"),
        ({"objective": "high"}, ("objective",), "between 0 and 1"),
        ({"window_days": 14}, ("window_days",), "7, 28, 30"),
        ({"rules": [{"kind": "timeouts"}]}, ("rules", 0, "kind"), "burn_rate"),
        ({"rules": [{"kind": "burn_rate", "severity": "mail"}]}, ("rules", 0, "severity"), "page or ticket"),
        ({"rules": [{"kind": "burn_rate", "for_seconds": -1}]}, ("rules", 0, "for_seconds"), "≥ 0"),
        ({"rules": []}, ("rules",), "at least one"),
        ({"tests": []}, ("tests",), "at least one"),
        ({"test": []}, ("test",), "There is no 'test' here"),
        ({"declared_in": "a.yaml", "feature": "chat"}, ("objective",), "leave it out"),
    ],
)
def test_a_document_that_is_no_scenario_is_refused_where_it_is_wrong(fields, path, said):
    with pytest.raises(Unsound, match=re.escape(said)) as refused:
        read_scenarios(document(**fields), nothing_declared)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("expected", "field", "said"),
    [
        ({"eval_time": "soon", "exp_incident": "open"}, "eval_time", "63m"),
        ({"eval_time": "99d", "exp_incident": "open"}, "eval_time", "at most"),
        ({"eval_time": "5m"}, None, "Nothing is expected"),
        ({"eval_time": "5m", "exp_severity": "high"}, "exp_severity", "page, ticket or none"),
        ({"eval_time": "5m", "exp_incident": "closed"}, "exp_incident", "open, resolved"),
        ({"eval_time": "5m", "exp_states": {"outage": "on"}}, "exp_states", "inactive, pending"),
        ({"eval_time": "5m", "exp_states": {"2h/5m": "firing"}}, "exp_states", "1h/5m, 6h/30m"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused(expected, field, said):
    with pytest.raises(Unsound, match=re.escape(said)) as refused:
        read_scenarios(document(expected), nothing_declared)
    path = ("tests", 0, "alert_rule_test", 0)
    assert refused.value.path[: 4 + bool(field)] == (path if field is None else (*path, field))


def test_more_timeouts_than_bad_are_refused_with_their_minute():
    with pytest.raises(Unsound, match="in minute 2 they are more"):
        read_scenarios(document(series={"bad": "1x9", "timeouts": "1x1 2"}), nothing_declared)


# -- the command, as a process -------------------------------------------------------------------------

HOW_TO = (PROJECT / "docs/how-to/test-alerts.md").read_text()
REFERENCE = (PROJECT / "docs/reference/commands.md").read_text()
OUTAGE, TOOLS, SLOW = re.findall(r"```yaml\n((?:milestone|declared_in): .*?)```", HOW_TO, re.DOTALL)


def run(folder: Path, *arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    """Without a database: what is named does not exist."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "DATABASE_URL": "postgres://127.0.0.1:1/nothing",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": "a test",
        "KEY_PEPPER": "a test",
    }
    return subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), "test_alerts", *arguments],
        cwd=folder,
        env=environment,
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "alerts.test.yaml").write_text(OUTAGE)
    (tmp_path / "tools.yaml").write_text(TOOLS)
    (tmp_path / "slow.yaml").write_text(SLOW)
    declared = re.search(r"```yaml\n(apiVersion: v1\nkind: Feature.*?)```", REFERENCE, re.DOTALL)
    assert declared
    (tmp_path / "budgets.yaml").write_text(declared[1])
    return tmp_path


def test_the_scenarios_of_the_documentation_pass(folder: Path):
    done = run(folder, "alerts.test.yaml", "tools.yaml", "slow.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("ok  alerts.test.yaml:5  a full outage pages")
    assert done.stdout.endswith("4 tests passed, 7 evaluations were looked at.\n")


def test_what_differs_is_shown_as_the_documentation_shows_it(folder: Path):
    (folder / "alerts.test.yaml").write_text(OUTAGE.replace("eval_time: 63m", "eval_time: 62m"))
    done = run(folder, "alerts.test.yaml")
    assert done.returncode == 1
    shown = re.search(r"```\n(FAILED .*?)```", HOW_TO, re.DOTALL)
    assert shown
    printed = done.stdout.splitlines()
    for line, expected in zip(printed, shown[1].splitlines(), strict=True):
        assert line.startswith(expected.rstrip("…").rstrip())


def test_standard_input_is_taken(folder: Path):
    done = run(folder, "-", standard_input=OUTAGE)
    assert done.returncode == 0
    assert "ok  standard input:5" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            OUTAGE.replace("10x59 0x19", "10x59 sometimes"),
            "wrong.yaml:7, tests.0.input_series.0.values: Expected counts",
        ),
        (
            OUTAGE.replace("objective: 0.99", "objective: 99"),
            "wrong.yaml:2, objective: objective is a number between",
        ),
        ("tests: [", "wrong.yaml:"),
        ("", "wrong.yaml: The file holds no test."),
        (TOOLS.replace("support-chat", "no-chat"), "declares no Feature 'no-chat'"),
        (TOOLS.replace("budgets.yaml", "none.yaml"), "none.yaml cannot be read: No such file"),
        (
            TOOLS.replace("component: tools", "component: other"),
            "support-chat has no latency budget for other",
        ),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_with_its_line(folder: Path, text: str, said: str):
    (folder / "wrong.yaml").write_text(text)
    done = run(folder, "alerts.test.yaml", "wrong.yaml")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "ok  alerts.test.yaml:5" in done.stdout, "the other files are run all the same"


def test_a_file_that_is_not_there_is_told(folder: Path):
    done = run(folder, "none.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    assert "none.yaml: The file cannot be read: No such file or directory." in done.stderr
