"""Makes a session fail in which any test was skipped: `pytest -p tests.plugins.no_skips --no-skips`.

A test that is skipped for want of a browser or a server would otherwise look like one that passed. Only a test with
the marker `peer` may be: it meets another program, such as an Alertmanager, where the machine has it.
"""

from __future__ import annotations

import pytest

_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail the session where any test is skipped")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and "peer" not in report.keywords:
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    is_controller = not hasattr(session.config, "workerinput")
    if session.config.getoption("no_skips") and _skipped and is_controller:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("no_skips") and _skipped:
        terminalreporter.section("skipped tests fail this session", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
