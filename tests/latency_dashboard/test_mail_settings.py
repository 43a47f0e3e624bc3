"""The mail server is named by one URL, and an installation without one says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from pytest_django import Settings

from latency_dashboard.checks import check_mail
from tests.children import PROJECT

_PRINT = """
import json
from latency_dashboard import settings
names = ["BACKEND", "HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL", "IS_CONFIGURED"]
print(json.dumps([getattr(settings, f"EMAIL_{name}").split(".")[-2] if name == "BACKEND"
                  else getattr(settings, f"EMAIL_{name}") for name in names] + [settings.DEFAULT_FROM_EMAIL]))
"""
_PRODUCTION = {"DATABASE_URL": "postgres://x:y@127.0.0.1:1/z", "REDIS_URL": "redis://127.0.0.1:1/0"}


def mail_settings(**environment: str) -> list[object]:
    """What the settings make of these variables, read by a process of its own."""
    ours = {name: value for name, value in os.environ.items() if name not in ("EMAIL_URL", "DATABASE_URL")}
    written = subprocess.run(
        [sys.executable, "-c", _PRINT],
        cwd=PROJECT,
        env=ours | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return list(json.loads(written.stdout))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "smtp+tls://mail%40example.org:p%2Fw@mail.example.org",
            ["smtp", "mail.example.org", 587, "mail@example.org", "p/w", True, False, True],
        ),
        ("smtp+ssl://mail.example.org", ["smtp", "mail.example.org", 465, "", "", False, True, True]),
        ("smtp://127.0.0.1:2525", ["smtp", "127.0.0.1", 2525, "", "", False, False, True]),
    ],
)
def test_a_url_names_the_server_and_how_to_speak_with_it(url: str, expected: list[object]) -> None:
    sender = "Latency Dashboard <latency-dashboard@latency.example.org>"
    settings = mail_settings(**_PRODUCTION, EMAIL_URL=url, PUBLIC_URL="https://latency.example.org:8443")
    assert settings == [*expected, sender]


def test_without_a_url_a_mail_goes_into_the_log_at_home_and_nowhere_in_production() -> None:
    at_home, in_production = mail_settings(), mail_settings(**_PRODUCTION)

    assert (at_home[0], at_home[-2]) == ("console", False)
    assert (in_production[0], in_production[-2]) == ("dummy", False)


def test_a_deployment_without_a_mail_server_is_warned(settings: Settings) -> None:
    settings.EMAIL_IS_CONFIGURED = False
    [warning] = check_mail()
    assert "EMAIL_URL=smtp+tls://" in warning.hint

    settings.EMAIL_IS_CONFIGURED = True
    assert check_mail() == []
