"""What the one command knows of the project before it loads it."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders

from latency_dashboard.serve import static_files


def test_each_static_file_of_ours_is_looked_at_for_changes() -> None:
    """Else a new version would go on with the scripts of the one before."""
    found = {
        Path(storage.path(path))
        for finder in get_finders()
        for path, storage in finder.list(ignore_patterns=[])
    }
    ours = {
        path
        for path in found
        if any(
            path.is_relative_to(settings.BASE_DIR / app) for app in ("latency_dashboard", "budgets", "alerts")
        )
    }
    assert settings.BASE_DIR / "latency_dashboard/static/js/charts.js" in ours
    assert ours == set(static_files())
