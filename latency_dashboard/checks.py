"""Mistakes in settings, told at start instead of found at night."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from alerts.addresses import parse_networks


class LatencyDashboardConfig(AppConfig):
    name = "latency_dashboard"

    def ready(self) -> None:
        register(check_retention)
        register(check_outbound_networks)
        register(check_throttling)
        register(check_mail, Tags.security, deploy=True)


def check_retention(**kwargs: Any) -> list[CheckMessage]:
    """Hours are derived from minutes, minutes rebuilt from raw: each must live at least as long as its source."""
    kept = ("RAW_RETENTION_DAYS", "MINUTE_RETENTION_DAYS", "HOUR_RETENTION_DAYS")
    days = [getattr(settings, name) for name in kept]
    if days[0] < 1 or days != sorted(days):
        return [
            Error(
                f"{', '.join(kept)} are {', '.join(map(str, days))}.",
                hint="They must be at least 1 and in ascending order: late data changes minutes as long as raw data is kept.",
                id="latency_dashboard.E001",
            )
        ]
    return []


def check_outbound_networks(**kwargs: Any) -> list[CheckMessage]:
    try:
        parse_networks(settings.OUTBOUND_ALLOWED_CIDRS)
    except ValueError as error:
        return [
            Error(
                f"OUTBOUND_ALLOWED_CIDRS cannot be read: {error}",
                hint="Networks such as 10.1.0.0/16, separated by commas.",
                id="latency_dashboard.E002",
            )
        ]
    return []


def check_throttling(**kwargs: Any) -> list[CheckMessage]:
    wrong = [
        Error(f"{name} is {value}.", hint=f"It must be at least {least}.", id="latency_dashboard.E003")
        for name, value, least in (
            ("TRUSTED_PROXIES", settings.TRUSTED_PROXIES, 0),
            ("LOGIN_FAILURE_LIMIT", settings.AXES_FAILURE_LIMIT, 1),
            ("LOGIN_COOL_OFF_MINUTES", settings.AXES_COOLOFF_TIME.total_seconds() // 60, 1),
        )
        if value < least
    ]
    return list[CheckMessage](wrong)


def check_mail(**kwargs: Any) -> list[CheckMessage]:
    if settings.EMAIL_IS_CONFIGURED:
        return []
    return [
        Warning(
            "EMAIL_URL is not set: invitations, password resets and alerts by e-mail are not sent.",
            hint="Name your mail server, e.g. EMAIL_URL=smtp+tls://user:password@mail.example.org:587, and the "
            "sender in DEFAULT_FROM_EMAIL.",
            id="latency_dashboard.W001",
        )
    ]
