"""Begins with the modules that take longest: `pytest -p tests.plugins.longest_first -n 2 --dist loadscope …`.

A module runs within one worker. One that takes minutes and is begun last keeps a single worker busy while the others
have nothing left to do, and by itself pytest-xdist begins with the modules of most tests, which are not the longest.
The order changes no result: every other module, and within a module every test, stays in its place.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Whatever takes ten seconds or more of an idle machine with two cores, the longest first (`--durations=0` tells).
LONGEST = (
    "tests/latency_dashboard/test_backup.py",
    "tests/processes/test_commands.py",
    "tests/processes/test_faults.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/latency_dashboard/test_api_contract.py",
    "tests/processes/test_notifications_under_faults.py",
    "tests/processes/test_full_disk.py",
    "tests/browser/test_every_page.py",
    "tests/budgets/test_rollups.py",
    "tests/latency_dashboard/test_compose.py",
    "tests/browser/test_hold_pages.py",
    "tests/browser/test_incident_pages.py",
    "tests/browser/test_staying.py",
    "tests/browser/test_pages.py",
    "tests/browser/test_team_pages.py",
    "tests/browser/test_rule_pages.py",
    "tests/browser/test_editor.py",
    "tests/browser/test_start.py",
    "tests/browser/test_channels.py",
    "tests/budgets/test_tiles.py",
    "tests/budgets/test_demo.py",
    "tests/budgets/test_editor.py",
    "tests/latency_dashboard/test_metrics.py",
    "tests/browser/test_api_reference.py",
    "tests/test_permissions.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuses a name that no file has any more, and keeps pytest-xdist to the order of the collection."""
    if gone := [name for name in LONGEST if not (config.rootpath / name).is_file()]:
        raise pytest.UsageError(f"tests/plugins/longest_first.py names what is not there: {', '.join(gone)}")
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {config.rootpath / name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        path: Path = item.path
        return places.get(path, len(LONGEST))

    items.sort(key=place)
