"""What every test may rely on: a folder for static files, and pages whose static files need no collecting."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings


@pytest.fixture(scope="session", autouse=True)
def static_root() -> None:
    """WhiteNoise looks for it as soon as a request is made."""
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def plain_static_files(settings: Settings) -> None:
    """Static files under their own names, found where they lie."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
