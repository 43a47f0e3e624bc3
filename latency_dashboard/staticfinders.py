"""Serves plotly.min.js out of the installed plotly package, and nothing else of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage


class PlotlyFinder(BaseFinder):
    """Finds `plotly/plotly.min.js`: the same version as the Python side, with no copy of it in the repository."""

    path = "plotly.min.js"

    def __init__(self) -> None:
        bundle = Path(settings.PLOTLY_BUNDLE)
        self.storage = FileSystemStorage(location=str(bundle.parent))
        self.storage.prefix = "plotly"  # type: ignore[attr-defined]

    def check(self, **kwargs: Any) -> list[Any]:
        return []

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        if path != f"plotly/{self.path}":
            return [] if find_all else None
        found = self.storage.path(self.path)
        return [found] if find_all else found

    def list(self, ignore_patterns: Any) -> Any:
        yield self.path, self.storage
